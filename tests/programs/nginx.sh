# shellcheck shell=sh
# Serves files of several sizes to itself, by workers of another user.
head -c 300000 /usr/bin/perl > /var/www/html/big
echo hello > /var/www/html/small
nginx
cat > /tmp/get.py <<'END'
import hashlib, http.client
for path in ("/small", "/big", "/absent", "/"):
    c = http.client.HTTPConnection("127.0.0.1", 80, timeout=60)
    c.request("GET", path)
    r = c.getresponse()
    body = r.read()
    print(path, r.status, r.getheader("Content-Type"), len(body), hashlib.md5(body).hexdigest())
c = http.client.HTTPConnection("127.0.0.1", 80, timeout=60)
for i in range(50):
    c.request("GET", "/small", headers={"Connection": "keep-alive"})
    assert c.getresponse().read() == b"hello\n"
print("50 on one connection")
END
python3 /tmp/get.py
# Many clients at once, ranges, conditions, compressed, and what is not allowed.
cat > /tmp/many.py <<'END'
import collections, concurrent.futures, hashlib, http.client
def one(i):
    c = http.client.HTTPConnection("127.0.0.1", 80, timeout=120)
    out = []
    for path in ("/small", "/big"):
        c.request("GET", path)
        r = c.getresponse()
        out.append((path, r.status, hashlib.md5(r.read()).hexdigest()))
    return tuple(out)
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    for what, n in collections.Counter(pool.map(one, range(160))).items():
        print(n, what)
def ask(method, path, **headers):
    c = http.client.HTTPConnection("127.0.0.1", 80, timeout=60)
    c.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    r = c.getresponse()
    return r, r.read()
r, body = ask("GET", "/big", Range="bytes=1000-1999")
print(r.status, r.getheader("Content-Range"), len(body))
r, _ = ask("GET", "/small")
print(ask("GET", "/small", If_None_Match=r.getheader("ETag"))[0].status)
print(ask("HEAD", "/big")[0].getheader("Content-Length"), ask("POST", "/small")[0].status)
print(ask("GET", "/../../etc/passwd")[0].status, ask("GET", "/%00")[0].status)
END
python3 /tmp/many.py
# New workers take over, the old ones end; a broken configuration changes nothing.
cat > /etc/nginx/conf.d/other.conf <<'END'
server { listen 127.0.0.1:8080; location / { return 200 "other\n"; } location /p/ { proxy_pass http://127.0.0.1:80/; } }
END
nginx -s reload
for i in 1 2 3 4 5 6 7 8 9 10; do
	sleep 1
	python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8080/").read(), u.urlopen("http://127.0.0.1:8080/p/small").read())' 2> /dev/null && break
done
echo nonsense > /etc/nginx/conf.d/bad.conf
nginx -t 2>&1 | grep -o 'test failed'
rm /etc/nginx/conf.d/bad.conf
nginx -s quit
