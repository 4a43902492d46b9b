/* schema: the tables image_*. */
#pragma once

#include "base/db.h"

/* Creates or upgrades the tables. One query if there is nothing to do. */
int image_schema_migrate(struct db *db, struct error *err) must_check;
