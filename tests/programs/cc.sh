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
# Several files: a library of each kind, one loaded at run time, thread-local data, atomics, links at the end.
mkdir /tmp/lib && cd /tmp/lib
cat > list.c <<'END'
#include <stdlib.h>
struct item { int value; struct item *next; };
struct item *push(struct item *head, int value) { struct item *i = malloc(sizeof(*i)); *i = (struct item){value, head}; return i; }
long sum(const struct item *i) { long s = 0; for (; i; i = i->next) s += i->value; return s; }
END
cat > plugin.c <<'END'
#include <stdio.h>
__attribute__((constructor)) static void come(void) { puts("comes"); }
__attribute__((destructor)) static void go(void) { puts("goes"); }
__thread int mine = 3;
int answer(int x) { return x * 6 + mine; }
END
cat > main.c <<'END'
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <threads.h>
#include <time.h>
#include <wchar.h>
struct item; struct item *push(struct item *, int); long sum(const struct item *);
static atomic_long count;
static int add(void *p) { for (int i = 0; i < 50000; i++) atomic_fetch_add(&count, 1); (void)p; return 7; }
int main(void) {
	struct item *list = NULL; thrd_t t[3]; int r = 0, one;
	for (int i = 0; i < 1000; i++) list = push(list, i);
	printf("%ld\n", sum(list));
	for (int i = 0; i < 3; i++) thrd_create(&t[i], add, NULL);
	for (int i = 0; i < 3; i++) thrd_join(t[i], &one), r += one;
	printf("%ld %d\n", atomic_load(&count), r);
	void *so = dlopen("./plugin.so", RTLD_NOW);
	if (so == NULL) return puts(dlerror()), 1;
	printf("%d\n", ((int (*)(int))dlsym(so, "answer"))(7));
	dlclose(so);
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(code, "\xb8\x2a\0\0\0\xc3", 6);
	mprotect(code, 4096, PROT_READ | PROT_EXEC);
	printf("%d\n", ((int (*)(void))code)());
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < 1000; i++) { clock_gettime(CLOCK_MONOTONIC, &b); if (b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec < a.tv_nsec)) return puts("time goes back"), 1; a = b; }
	printf("%zu %.20g %Lg\n", wcslen(L"four"), 0.1, 1.0L / 3);
	return 0;
}
END
for how in "" "-flto -O2" "-O2 -fPIE -pie -D_FORTIFY_SOURCE=2 -fstack-protector-all"; do
	# shellcheck disable=SC2086 # several words
	gcc -w $how -c list.c && ar rcs liblist.a list.o && gcc -w $how -fPIC -shared -o plugin.so plugin.c &&
		gcc -w $how -o main main.c -L. -llist -ldl -pthread
	./main
done
gcc -w -static -o static list.c main.c -pthread 2> /dev/null
readelf -h static | grep -c EXEC
