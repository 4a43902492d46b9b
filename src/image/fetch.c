/* fetch: see fetch.h. */
#include "image/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/garbage.h"
#include "image/orphans.h"
#include "image/record.h"
#include "image/store_priv.h"
#include "image/turn.h"

struct work {
	size_t layer;
	enum ingest_mode mode;
	int turn_fd; /* while it is under way */
};

/* What a job's process tells. */
struct outcome {
	struct ingest_result result;
	bool arrived; /* somebody else has fetched it meanwhile; nothing else is filled */
};
_Static_assert(sizeof(struct outcome) <= IMAGE_JOB_RESULT_MAX, "an outcome fits a record");

struct fetching {
	const struct image_fetch *fetch;
	const struct layer_format *format;
	struct work *work;
	size_t work_count;
	struct fetched_layer *layers; /* the result */
};

struct metered {
	struct ingest *ingest;
	struct image_job_meter *meter;
};

static int add_metered(const void *data, size_t len, void *context, struct error *err)
{
	struct metered *metered = context;

	metered->meter->done_bytes += len;
	return ingest_add(metered->ingest, data, len, err);
}

static struct ingest_expect expect_of(const struct image_fetch *fetch, size_t layer)
{
	struct ingest_expect expect = INGEST_EXPECT_NOTHING;

	expect.diffid = fetch->document->diffids[layer];
	if (fetch->manifest != NULL) {
		expect.blob = fetch->manifest->layers[layer].digest;
		expect.blob_size = fetch->manifest->layers[layer].size_bytes;
	}
	return expect;
}

/* The digest under which others know a layer that is on its way. */
static const struct digest *name_of(const struct image_fetch *fetch, size_t layer)
{
	return fetch->manifest ? &fetch->manifest->layers[layer].digest
			       : &fetch->document->diffids[layer];
}

static int prepare(size_t i, void *context, struct error *err)
{
	struct fetching *f = context;
	struct image_store *store = f->fetch->session->store;
	struct work *work = &f->work[i];

	/* Without a state directory there is nobody to share with. */
	if (store->state_fd < 0)
		return 0;
	work->turn_fd = turn_open(store, name_of(f->fetch, work->layer), err);
	return work->turn_fd < 0 ? work->turn_fd : 0;
}

/* Whether the layer's files have come to their places since it was planned. */
static int has_arrived(const struct image_fetch *fetch, size_t layer, struct error *err)
{
	struct image_store *store = fetch->session->store;
	int rc, blobs_fd = image_store_blobs_fd(store, err);
	struct layer_info info;
	struct stat st;

	if (blobs_fd < 0 || fetch->manifest == NULL)
		return blobs_fd < 0 ? blobs_fd : 0;
	rc = image_layer_holds_tar(store, &fetch->document->diffids[layer], err);
	if (rc != 0)
		return rc;
	if (fstatat(blobs_fd, digest_path(&fetch->manifest->layers[layer].digest).text, &st,
		    AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	rc = layer_stat(store->layers_fd, &fetch->document->diffids[layer], &info, err);
	return rc <= 0 ? rc : (uint64_t)st.st_size == fetch->manifest->layers[layer].size_bytes;
}

static int fetch_layer(struct fetching *f, size_t i, struct image_job_meter *meter,
		       struct ingest_result *result, struct error *err)
{
	const struct image_fetch *fetch = f->fetch;
	const struct work *work = &f->work[i];
	struct ingest_expect expect = expect_of(fetch, work->layer);
	own_ingest struct ingest *ingest = NULL;
	struct metered metered = {.meter = meter};
	int rc = ingest_begin(fetch->session, f->format, work->mode, &expect, &ingest, err);

	if (rc < 0)
		return rc;
	metered.ingest = ingest;
	if (work->mode == INGEST_KEPT)
		rc = image_blob_stream(fetch->session->store, &expect.blob, add_metered, &metered,
				       err);
	else
		rc = fetch->stream(work->layer, add_metered, &metered, fetch->context, err);
	return rc == 0 ? ingest_finish(ingest, result, err) : rc;
}

static int run(size_t i, struct image_job_meter *meter, void *result, void *context,
	       struct error *err)
{
	struct fetching *f = context;
	struct outcome outcome = {0};
	const struct work *work = &f->work[i];
	struct ingest_expect expect = expect_of(f->fetch, work->layer);
	int rc = work->turn_fd >= 0 ? turn_await(work->turn_fd, err) : 0;

	if (expect.blob_size != UINT64_MAX)
		meter->total_bytes = expect.blob_size;
	if (rc == 0)
		rc = has_arrived(f->fetch, work->layer, err);
	outcome.arrived = rc > 0;
	if (rc == 0)
		rc = fetch_layer(f, i, meter, &outcome.result, err);
	if (rc < 0)
		return refuse(err, rc, "layer %zu (%s)", work->layer + 1,
			      name_of(f->fetch, work->layer)->text);
	memcpy(result, &outcome, sizeof(outcome));
	return 0;
}

/* Its files are in their places; usually the one who fetched it has recorded it as well. If he died
 * before he could, the layer is made again, from the blob or from itself: then it is certain what it is. */
static int adopt(struct fetching *f, size_t layer, struct ingest_result *ret, struct error *err)
{
	const struct image_fetch *fetch = f->fetch;
	struct ingest_expect expect = expect_of(fetch, layer);
	uint64_t size;
	struct image_store *store = fetch->session->store;
	own_fd int layer_fd = -1;
	int rc = image_have_layer(store, &expect.diffid, err);

	layer_fd = layer_again_open(store->layers_fd, &expect.diffid, &size, NULL);
	if (rc > 0 && layer_fd < 0)
		rc = image_have_blob(store, &expect.blob, &size, err);
	if (rc != 0)
		return rc;
	expect.compression = manifest_layer_compression(fetch->manifest->layers[layer].media_type);
	return layer_fd < 0 ? ingest_kept_blob(fetch->session, f->format, &expect, ret, err)
			    : ingest_again(fetch->session, f->format, layer_fd, &expect, ret, err);
}

static int done(size_t i, const void *result, void *context, struct error *err)
{
	struct fetching *f = context;
	struct work *work = &f->work[i];
	struct fetched_layer *layer = &f->layers[work->layer];
	struct outcome outcome;
	int rc = 0;

	memcpy(&outcome, result, sizeof(outcome));
	if (outcome.arrived)
		rc = adopt(f, work->layer, &outcome.result, err);
	if (rc == 0) {
		layer->blob = outcome.result.blob;
		layer->blob_size = outcome.result.blob_size;
		layer->compression = outcome.result.compression;
		rc = image_record_layer(f->fetch->session, &outcome.result, err);
	}
	turn_release(f->fetch->session->store, name_of(f->fetch, work->layer), &work->turn_fd);
	return rc < 0 ? rc : 0;
}

static const char *name(size_t i, void *context)
{
	const struct fetching *f = context;

	return name_of(f->fetch, f->work[i].layer)->text;
}

static void tell_exists(const struct image_fetch *fetch, size_t layer, uint64_t size)
{
	struct image_progress progress = {
		.step = IMAGE_STEP_EXISTS,
		.what = name_of(fetch, layer)->text,
		.index = layer,
		.count = fetch->document->diffids_count,
		.done_bytes = size,
		.total_bytes = size,
	};

	if (fetch->progress != NULL)
		fetch->progress(&progress, fetch->progress_data);
}

/* The same layer may stand in an image several times: it is fetched once. */
static bool stands_before(const struct image_document *document, size_t layer)
{
	for (size_t i = 0; i < layer; i++)
		if (digest_eq(&document->diffids[i], &document->diffids[layer]))
			return true;
	return false;
}

/* The same for a layer that is here, of which the source has the tar only: what it was made of once will
 * stand in the manifest. */
static int decide_by_origin(struct image_store *store, const struct digest *diffid, bool holds_tar,
			    struct fetched_layer *known, struct error *err)
{
	struct image_origin origin;
	int rc = image_layer_origin(store, diffid, &origin, err);

	if (rc <= 0)
		return rc < 0 ? rc : 1;
	if (!origin.blob_here && (!holds_tar || origin.size == 0))
		return 1;
	known->blob = origin.blob;
	known->blob_size = origin.size;
	known->compression = origin.compression;
	return 0;
}

/* Decides what is to be done for a layer. 1 if there is something, with its mode. */
static int decide(struct fetching *f, size_t layer, enum ingest_mode *ret_mode, struct error *err)
{
	const struct image_fetch *fetch = f->fetch;
	struct image_store *store = fetch->session->store;
	const struct digest *diffid = &fetch->document->diffids[layer];
	struct fetched_layer *known = &f->layers[layer];
	int here = image_have_layer(store, diffid, err), holds_tar = 0, blob;

	if (here > 0)
		holds_tar = image_layer_holds_tar(store, diffid, err);
	if (here < 0 || holds_tar < 0)
		return here < 0 ? here : holds_tar;
	if (fetch->manifest == NULL) {
		*ret_mode = INGEST_TAR;
		return here ? decide_by_origin(store, diffid, holds_tar, known, err) : 1;
	}
	known->blob = fetch->manifest->layers[layer].digest;
	known->blob_size = fetch->manifest->layers[layer].size_bytes;
	blob = image_have_blob(store, &known->blob, &known->blob_size, err);
	*ret_mode = blob > 0 ? INGEST_KEPT : INGEST_BLOB;
	return blob < 0 ? blob : !(here && (blob || holds_tar));
}

static uint64_t size_of(const struct fetching *f, const struct work *work)
{
	const struct manifest *manifest = f->fetch->manifest;

	return manifest != NULL ? manifest->layers[work->layer].size_bytes : 0;
}

/* The largest layers first: the last one to begin is then not the one that all wait for. */
static void sort_by_size(struct fetching *f)
{
	for (size_t i = 1; i < f->work_count; i++) {
		struct work work = f->work[i];
		size_t k = i;

		for (; k > 0 && size_of(f, &f->work[k - 1]) < size_of(f, &work); k--)
			f->work[k] = f->work[k - 1];
		f->work[k] = work;
	}
}

static int plan(struct fetching *f, struct error *err)
{
	const struct image_document *document = f->fetch->document;

	f->work = mem_new_array(document->diffids_count, sizeof(*f->work));
	for (size_t i = 0; i < document->diffids_count; i++) {
		enum ingest_mode mode;
		int rc = decide(f, i, &mode, err);

		if (rc < 0)
			return rc;
		if (rc == 0)
			tell_exists(f->fetch, i, f->layers[i].blob_size);
		else if (!stands_before(document, i))
			f->work[f->work_count++] =
				(struct work){.layer = i, .mode = mode, .turn_fd = -1};
	}
	sort_by_size(f);
	return 0;
}

/* A layer that stands a second time has what the first one got. */
static void copy_repeated(const struct image_document *document, struct fetched_layer *layers)
{
	for (size_t i = 0; i < document->diffids_count; i++)
		for (size_t k = 0; k < i; k++)
			if (layers[i].blob.text[0] == '\0' &&
			    digest_eq(&document->diffids[i], &document->diffids[k]))
				layers[i] = layers[k];
}

int image_fetch_layers(const struct image_fetch *fetch, struct fetched_layer *ret,
		       struct error *err)
{
	struct fetching f = {.fetch = fetch, .layers = ret};
	struct image_jobs jobs = {
		.result_size = sizeof(struct outcome),
		.context = &f,
		.prepare = prepare,
		.run = run,
		.done = done,
		.name = name,
		.progress = fetch->progress,
		.progress_data = fetch->progress_data,
	};
	int rc, layers_fd = image_store_layers_fd(fetch->session->store, err);

	if (layers_fd < 0)
		return layers_fd;
	rc = plan(&f, err);
	if (rc == 0 && f.work_count > 0) {
		f.format = layer_format_best(layers_fd);
		jobs.count = f.work_count;
		rc = image_jobs_run(&jobs, err);
	}
	for (size_t i = 0; i < f.work_count; i++)
		turn_release(fetch->session->store, name_of(fetch, f.work[i].layer),
			     &f.work[i].turn_fd);
	free(f.work);
	if (rc == 0)
		copy_repeated(fetch->document, ret);
	return rc;
}

static int check_counts(const struct image_fetch *fetch, struct error *err)
{
	if (fetch->manifest == NULL ||
	    fetch->manifest->layers_count == fetch->document->diffids_count)
		return 0;
	return refuse(err, -EBADMSG,
		      "the manifest has %zu layers but the configuration speaks of %zu",
		      fetch->manifest->layers_count, fetch->document->diffids_count);
}

/* The media type for a blob of the store, by its first bytes. */
static int layer_type(struct image_store *store, const struct digest *blob, const char **ret,
		      struct error *err)
{
	own_fd int fd =
		openat(store->blobs_fd, digest_path(blob).text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	unsigned char magic[4];
	ssize_t n = fd < 0 ? -errno : fd_read_full(fd, magic, sizeof(magic));

	if (n < 0)
		return fail(err, (int)n, "read the blob %s", blob->text);
	*ret = manifest_layer_type(compression_sniff(magic, (size_t)n));
	return 0;
}

static int make_manifest(struct image_store *store, const struct image_arrival *a,
			 const struct fetched_layer *layers, size_t count, char **ret,
			 struct error *err)
{
	own_mem struct descriptor *list = mem_new_array(count, sizeof(*list));
	char config_type[] = MEDIA_OCI_CONFIG;
	struct descriptor config = {
		.media_type = config_type,
		.digest = digest_of(a->config_text, a->config_len),
		.size_bytes = a->config_len,
	};
	own_strv char **types = NULL;

	for (size_t i = 0; i < count; i++) {
		const char *type = manifest_layer_type(layers[i].compression);
		int rc = layers[i].compression == COMPRESSION_UNKNOWN
				 ? layer_type(store, &layers[i].blob, &type, err)
				 : 0;

		if (rc < 0)
			return rc;
		strv_push(&types, type);
		list[i] = (struct descriptor){
			.media_type = types[i],
			.digest = layers[i].blob,
			.size_bytes = layers[i].blob_size,
		};
	}
	*ret = manifest_format(&config, list, count);
	return 0;
}

/* The documents into the store, then the rows of the image. */
static int record(struct image_fetch *fetch, const struct image_arrival *a,
		  const struct fetched_layer *layers, struct digest *ret_id, struct error *err)
{
	size_t count = fetch->document->diffids_count, used = 0;
	own_mem char *made = NULL;
	own_mem struct digest *blobs =
		mem_new_array(count + a->extra_blobs_count + 2, sizeof(*blobs));
	const char *text = a->manifest_text;
	size_t len = a->manifest_len;
	struct digest id, manifest;
	int rc = 0;

	if (text == NULL) {
		rc = make_manifest(fetch->session->store, a, layers, count, &made, err);
		text = made;
		len = made ? strlen(made) : 0;
	}
	if (rc == 0)
		rc = image_record_small(fetch->session, a->config_text, a->config_len,
					fetch->manifest ? &fetch->manifest->config.digest : NULL,
					&id, err);
	if (rc == 0)
		rc = image_record_small(fetch->session, text, len, a->manifest_digest, &manifest,
					err);
	if (rc < 0)
		return rc;
	blobs[used++] = id;
	blobs[used++] = manifest;
	for (size_t i = 0; i < a->extra_blobs_count; i++)
		blobs[used++] = a->extra_blobs[i];
	for (size_t i = 0; i < count; i++)
		blobs[used++] = layers[i].blob;
	*ret_id = id;
	return image_record(fetch->session,
			    &(struct image_record){
				    .id = &id,
				    .manifest = &manifest,
				    .document = fetch->document,
				    .blobs = blobs,
				    .blobs_count = used,
				    .name = a->name,
				    .repository = a->repository,
				    .repo_digests = a->repo_digests,
				    .repo_digests_count = a->repo_digests_count,
			    },
			    err);
}

int image_arrive(struct image_fetch *fetch, const struct image_arrival *a, struct digest *ret_id,
		 struct error *err)
{
	own_image_document struct image_document document = {0};
	own_manifest struct manifest manifest = {0};
	own_mem struct fetched_layer *layers = NULL;
	int rc = image_document_parse(a->config_text, a->config_len, &document, err);

	if (rc == 0 && a->manifest_text != NULL)
		rc = manifest_parse(a->manifest_text, a->manifest_len, NULL, &manifest, err);
	if (rc < 0)
		return rc;
	fetch->document = &document;
	fetch->manifest = a->manifest_text ? &manifest : NULL;
	layers = mem_new_array(document.diffids_count, sizeof(*layers));
	rc = check_counts(fetch, err);
	if (rc == 0)
		rc = image_fetch_layers(fetch, layers, err);
	if (rc == 0)
		rc = record(fetch, a, layers, ret_id, err);
	fetch->document = NULL;
	fetch->manifest = NULL;
	return rc;
}

static bool can_go_on(int rc)
{
	switch (rc) {
	case -EINTR:
	case -ETIMEDOUT:
	case -ENETUNREACH:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -EHOSTUNREACH:
	case -EAGAIN:
		return true;
	default:
		return false;
	}
}

/* Jobs that were ended by force have left unfinished layers, and perhaps files that are named but not
 * recorded. */
static void clear_away(struct image_store *store)
{
	struct layer_leftovers left;
	struct error why = {0};
	char note[17];

	if (image_store_layers_fd(store, NULL) >= 0 &&
	    layer_recover(store->layers_fd, store->state_fd, 0, &left, &why) < 0)
		log_failure(&why);
	/* Beside another command that adds it cannot be told what is recorded: later, then. */
	if (image_orphans(store, true, NULL, NULL, NULL) == -EWOULDBLOCK &&
	    image_session_note(store, note, &why) < 0)
		log_failure(&why);
}

int image_fetch_failed(struct image_store *store, int64_t since_ns, int rc)
{
	clear_away(store);
	/* The failure itself is what the user shall hear of, not one of tidying up after it. */
	if (can_go_on(rc) || image_garbage_condemn_since(store, since_ns, NULL) < 0)
		return rc;
	if (image_garbage_collect(store, GARBAGE_CONDEMNED, NULL, NULL) < 0)
		return rc;
	return rc;
}
