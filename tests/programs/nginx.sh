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
nginx -s quit
