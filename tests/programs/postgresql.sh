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
# Clients at once, that update the same rows; then what they did must add up.
as pgbench -h /var/run/postgresql -q -i -s 1 postgres 2> /dev/null
as pgbench -h /var/run/postgresql -n -c 4 -j 2 -t 50 postgres 2> /dev/null | grep -E 'processed|failed|number of clients'
sql -c "select sum(abalance) = (select sum(delta) from pgbench_history), count(*) from pgbench_accounts" \
	-c "select count(*), (select sum(bbalance) from pgbench_branches) = sum(delta) from pgbench_history"
# Text, JSON, windows, recursion, a function and a trigger, a dump and its way back.
sql -c "select to_tsvector('english', 'the quick foxes jumped') @@ to_tsquery('fox & jump')" \
	-c "select jsonb_path_query_array('{\"a\": [1, 2, 3]}', '\$.a[*] ? (@ > 1)'), '[1,5)'::int4range * '[3,9)'" \
	-c "select id, rank() over (order by f desc) from t where id <= 5 order by id" \
	-c "with recursive r(n, f) as (values (1, 1::numeric) union all select n + 1, f * (n + 1) from r where n < 30) select f from r where n = 30"
sql -c "create function twice() returns trigger language plpgsql as 'begin new.v := new.v * 2; return new; end'" \
	-c "create table w (v int check (v < 100))" \
	-c "create trigger tr before insert on w for each row execute function twice()" \
	-c "insert into w values (3), (40) returning v"
sql -c "insert into w values (60)" 2>&1 || true
as pg_dump -h /var/run/postgresql -t w postgres > /tmp/dump
sql -c "drop table w" && sql < /tmp/dump > /dev/null && sql -c "select sum(v) from w"
kill -9 "$(head -n 1 /data/postmaster.pid)"
sleep 1
rm -f /data/postmaster.pid
as "$bin/pg_ctl" -D /data -w -t 300 -o '-c listen_addresses=' -l /data/log start > /dev/null
sql -c "select count(*), max(id) from t" -c "select string_agg(s, ',' order by id) from t where id <= 3"
as "$bin/pg_ctl" -D /data -w -m fast stop > /dev/null
