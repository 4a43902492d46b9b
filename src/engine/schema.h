/* schema: the engine's tables. */
#pragma once

#include "base/db.h"

int schema_migrate(struct db *db, struct error *err) must_check;
