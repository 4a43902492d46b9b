# shellcheck shell=sh
# Keys, a script, expiry, saving and loading again; many clients, transactions, a log that is replayed
# after a kill, a copy that follows.
redis-server --daemonize yes --dir /tmp --save '' --loglevel warning > /dev/null
until redis-cli ping 2> /dev/null | grep -q PONG; do sleep 0.1; done
i=0
while [ $i -lt 500 ]; do echo "SET key:$i value$i"; i=$((i + 1)); done | redis-cli | sort | uniq -c
redis-cli incrby n 41; redis-cli incr n
redis-cli rpush l a b c; redis-cli lrange l 0 -1
redis-cli zadd z 1.5 x 0.5 y; redis-cli zrange z 0 -1 withscores
redis-cli eval 'return redis.call("get", KEYS[1]) .. #ARGV' 1 key:7 a b
redis-cli set gone 1 px 50; sleep 0.3; redis-cli exists gone
redis-cli dbsize; redis-cli save
redis-cli shutdown nosave 2> /dev/null || true
redis-server --daemonize yes --dir /tmp --loglevel warning > /dev/null
until redis-cli ping 2> /dev/null | grep -q PONG; do sleep 0.1; done
redis-cli get key:499; redis-cli dbsize
redis-cli shutdown nosave 2> /dev/null || true

redis-server --daemonize yes --port 7000 --dir /tmp --save '' --appendonly yes --appendfsync always --loglevel warning > /dev/null
a() { redis-cli -p 7000 "$@"; }
until a ping 2> /dev/null | grep -q PONG; do sleep 0.1; done
redis-benchmark -p 7000 -q -n 2000 -c 20 -P 4 -r 100 -t set,get,incr,lpush,zadd,mset | tr '\r' '\n' | grep 'per second' | cut -d: -f1
a llen mylist
printf 'MULTI\nSET t 1\nINCR t\nINCR t\nEXEC\nMULTI\nINCR t\nDISCARD\nGET t\n' | a
a set text 'some bytes'; a incr text 2>&1; a bitcount text; a setbit bits 1000 1; a strlen bits
a pfadd h a b c a; a pfcount h; a geoadd g 13.36 38.11 p 15.08 37.50 c; a geodist g p c km
a xadd stream 1-1 k v; a xadd stream 1-2 k w; a xrange stream - + count 1
redis-server --daemonize yes --port 7001 --dir /var/tmp --save '' --replicaof 127.0.0.1 7000 --loglevel warning > /dev/null
i=0
until [ "$(redis-cli -p 7001 get text 2> /dev/null)" = 'some bytes' ] || [ $i = 300 ]; do i=$((i + 1)); sleep 0.1; done
redis-cli -p 7001 get text; redis-cli -p 7001 set x y 2>&1 || true
printf 'SET later 1\nWAIT 1 60000\n' | a; redis-cli -p 7001 get later
redis-cli -p 7001 shutdown nosave 2> /dev/null || true
n=$(a dbsize)
kill -9 "$(a info server | tr -d '\r' | sed -n 's/^process_id://p')"
sleep 1
redis-server --daemonize yes --port 7000 --dir /tmp --save '' --appendonly yes --loglevel warning > /dev/null
until a ping 2> /dev/null | grep -q PONG; do sleep 0.1; done
[ "$(a dbsize)" = "$n" ] && a get later && a get text
a shutdown nosave 2> /dev/null || true
