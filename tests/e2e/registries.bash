# shellcheck shell=bash
# Registries for the end-to-end tests: docker-registry, and one of our own for what it does not do.
# A test sets PORT and REGISTRY first; teardown ends $REGISTRY_PID and ${REGISTRY_PIDS[@]}.

# registry_begin [LINES]: a registry with these lines more in the `http` part of its configuration.
registry_begin() {
	cat >"$TEST_DIR/registry.yml" <<-END
		version: 0.1
		log: {level: error, accesslog: {disabled: true}}
		storage: {filesystem: {rootdirectory: $TEST_DIR/registry}, delete: {enabled: true}}
		http:
		  addr: localhost:$PORT
		${1:-}
	END
	docker-registry serve "$TEST_DIR/registry.yml" >"$TEST_DIR/registry.log" 2>&1 3>&- &
	REGISTRY_PID=$!
	eventually bash -c "exec 4<>/dev/tcp/localhost/$PORT"
}

# A certificate for localhost and the authority that signed it.
make_certificates() {
	cd "$TEST_DIR"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca \
		-keyout ca.key -out ca.crt 2>/dev/null
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
		-keyout server.key -out server.csr 2>/dev/null
	openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
		-extfile <(echo subjectAltName=DNS:localhost) -out server.crt 2>/dev/null
	cd - >/dev/null
}

# zot NAME [WORD...]: the registry of zot.py; its address goes to the variable NAME, its log is
# $TEST_DIR/NAME.log.
zot() {
	local name=$1
	shift
	python3 "$BATS_TEST_DIRNAME/zot.py" "$TEST_DIR/$name.port" "$TEST_DIR/$name.log" "$@" 3>&- &
	REGISTRY_PIDS+=($!)
	eventually test -s "$TEST_DIR/$name.port"
	printf -v "$name" 'localhost:%s' "$(cat "$TEST_DIR/$name.port")"
}

registries_end() {
	local pid
	for pid in "${REGISTRY_PIDS[@]}"; do
		kill "$pid"
		wait "$pid" 2>/dev/null || true
	done
	[ -z "${REGISTRY_PID:-}" ] || { kill "$REGISTRY_PID"; wait "$REGISTRY_PID" || true; }
}
