# shellcheck shell=sh
# Keys, a script, expiry, saving and loading again.
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
