# shellcheck shell=sh
# A cluster of its own: tables, indexes, transactions, a crash in between.
bin=$(echo /usr/lib/postgresql/*/bin)
mkdir -p /var/run/postgresql /data
chown postgres /var/run/postgresql /data
as() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
as "$bin/initdb" -D /data --locale=C.UTF-8 > /dev/null
as "$bin/pg_ctl" -D /data -w -t 300 -o '-c listen_addresses=' -l /data/log start > /dev/null
sql() { as psql -h /var/run/postgresql -X -q -A -t -d postgres "$@"; }
sql -c "create table t (id int primary key, s text, f float8)" \
	-c "insert into t select i, md5(i::text), sin(i) from generate_series(1, 20000) i" \
	-c "create index on t (s)" -c "analyze t"
sql -c "select count(*), min(s), sum(f) from t" -c "select id from t where s = md5('777')"
sql -c "begin; delete from t where id % 2 = 0; rollback" -c "select count(*) from t"
sql -c "select 1 / 0" 2>&1 || true
kill -9 "$(head -n 1 /data/postmaster.pid)"
sleep 1
rm -f /data/postmaster.pid
as "$bin/pg_ctl" -D /data -w -t 300 -o '-c listen_addresses=' -l /data/log start > /dev/null
sql -c "select count(*), max(id) from t" -c "select string_agg(s, ',' order by id) from t where id <= 3"
as "$bin/pg_ctl" -D /data -w -m fast stop > /dev/null
