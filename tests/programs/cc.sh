# shellcheck shell=sh
# A program with floating point, threads, signals and vector instructions, compiled here.
cat > /tmp/c.c <<'END'
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static jmp_buf back;
static void caught(int n) { siglongjmp(back, n); }
static void *work(void *p) { double s = 0; for (int i = 1; i < 100000; i++) s += 1.0 / i; *(double *)p = s; return NULL; }
static unsigned queens(unsigned all, unsigned c, unsigned l, unsigned r) {
	unsigned n = 0;
	if (c == all) return 1;
	for (unsigned p = all & ~(c | l | r); p; p &= p - 1) n += queens(all, c | (p & -p), (l | (p & -p)) << 1, (r | (p & -p)) >> 1);
	return n;
}
int main(void) {
	static float a[4096], b[4096];
	double s[4]; pthread_t t[4]; int status, n; long double x = 0;
	for (int i = 0; i < 4096; i++) a[i] = i * 0.5f, b[i] = 1.0f / (i + 1);
	for (int k = 0; k < 100; k++) for (int i = 0; i < 4096; i++) a[i] = a[i] * b[i] + b[i];
	for (int i = 0; i < 4096; i++) x += a[i];
	printf("%a %La %a %a\n", (double)a[77], x, sin(1e6), pow(1.1, 100));
	for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, work, &s[i]);
	for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
	printf("%a %u\n", s[3], queens(255, 0, 0, 0));
	signal(SIGSEGV, caught); signal(SIGFPE, caught);
	if ((n = sigsetjmp(back, 1)) == 0) *(volatile int *)8 = 1;
	printf("signal %d\n", n);
	if (fork() == 0) { char *p = malloc(1 << 20); memset(p, 7, 1 << 20); _exit(p[12345]); }
	wait(&status);
	printf("child %d\n", WEXITSTATUS(status));
	return 0;
}
END
for level in -O0 -O2 "-O3 -march=native -ffp-contract=off"; do
	# shellcheck disable=SC2086 # several words
	gcc $level -w -o /tmp/c /tmp/c.c -lm -pthread
	/tmp/c
done
echo 'int main(void) { return missing; }' > /tmp/bad.c
gcc -o /tmp/bad /tmp/bad.c 2>&1 || echo "refused: $?"
