/* The configuration: what is accepted, what is refused, and that the refusal names the field. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "base/str.h"
#include "oci/config.h"
#include "oci/config_file.h"
#include "oci/mount_attr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Parses a configuration given as JSON with single quotes. */
static int parse(const char *text, struct config **ret, struct error *err)
{
	own_mem char *copy = str_copy(text);
	own_json json_t *json = NULL;
	int rc;

	for (char *p = copy; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	rc = config_read_text(copy, strlen(copy), "test", &json, err);
	return rc < 0 ? rc : config_parse(json, ret, err);
}

#define WITH(members) "{'ociVersion':'1.2.0'," members "}"
#define PROCESS(members) WITH("'process':{'args':['x'],'cwd':'/'," members "}")
#define LINUX(members) WITH("'linux':{" members "}")
#define RESOURCES(members) LINUX("'resources':{" members "}")
#define MOUNT(members) WITH("'mounts':[{'destination':'/x'," members "}]")
#define SECCOMP(members) LINUX("'seccomp':{'defaultAction':'SCMP_ACT_ALLOW'," members "}")

/* What is refused, and the words that say which field it is. */
static const struct {
	const char *text, *names;
} refused[] = {
	{"{}", "ociVersion"},
	{"[]", "object"},
	{"{'ociVersion':'2.0.0'}", "ociVersion"},
	{"{'ociVersion':5}", "ociVersion"},
	{WITH("'root':{}"), "root.path"},
	{WITH("'root':{'path':5}"), "root.path"},
	{WITH("'windows':{}"), "windows"},
	{WITH("'vm':{}"), "vm"},
	{WITH("'hostname':'x'"), "hostname"},
	{WITH("'domainname':'x'"), "domainname"},
	{WITH("'annotations':{'a':1}"), "annotations.a"},
	{WITH("'process':[]"), "process"},
	{PROCESS("'terminal':'yes'"), "process.terminal"},
	{PROCESS("'user':{'uid':-1}"), "process.user.uid"},
	{PROCESS("'user':{'uid':4294967295}"), "process.user.uid"},
	{PROCESS("'user':{'gid':1.5}"), "process.user.gid"},
	{PROCESS("'user':{'additionalGids':[0,'a']}"), "process.user.additionalGids[1]"},
	{WITH("'process':{'args':[]}"), "args"},
	{WITH("'process':{'args':['a',{}]}"), "process.args[1]"},
	{WITH("'process':{'cwd':'relative'}"), "process.cwd"},
	{PROCESS("'env':['=x']"), "env[0]"},
	{PROCESS("'rlimits':[{'type':'RLIMIT_X','soft':1,'hard':1}]"), "rlimits[0].type"},
	{PROCESS("'rlimits':[{'type':'RLIMIT_CPU','soft':2,'hard':1}]"), "rlimits[0]"},
	{PROCESS("'rlimits':[{'type':'RLIMIT_CPU','soft':1,'hard':1},"
		 "{'type':'RLIMIT_CPU','soft':1,'hard':1}]"),
	 "rlimits[1]"},
	{PROCESS("'oomScoreAdj':1001"), "process.oomScoreAdj"},
	{PROCESS("'ioPriority':{'class':'X'}"), "ioPriority.class"},
	{PROCESS("'ioPriority':{'class':'IOPRIO_CLASS_RT','priority':8}"), "priority"},
	{PROCESS("'scheduler':{'policy':'SCHED_X'}"), "scheduler.policy"},
	{PROCESS("'scheduler':{'policy':'SCHED_OTHER','priority':5}"), "scheduler"},
	{PROCESS("'scheduler':{'policy':'SCHED_OTHER','runtime':5}"), "scheduler"},
	{WITH("'hooks':{'prestart':[{'path':'rel'}]}"), "hooks.prestart[0].path"},
	{WITH("'hooks':{'poststop':[{'path':'/x','timeout':0}]}"), "timeout"},
	{WITH("'mounts':[{}]"), "mounts[0].destination"},
	{MOUNT("'type':''"), "mounts[0]"},
	{MOUNT("'type':'bind'"), "mounts[0]"},
	{SECCOMP("'listenerPath':'','syscalls':[{'names':['a'],'action':'SCMP_ACT_NOTIFY'}]"),
	 "listenerPath"},
	{SECCOMP("'listenerPath':'/l','syscalls':[{'names':['write'],'action':'SCMP_ACT_NOTIFY'}]"),
	 "syscalls[0]"},
	{MOUNT("'type':'proc','options':['tmpcopyup']"), "tmpcopyup"},
	{MOUNT("'type':'proc','options':['idmap']"), "id-mapped"},
	{MOUNT("'type':'proc','options':['remount']"), "remount"},
	{MOUNT("'source':'/a','options':['bind'],"
	       "'uidMappings':[{'containerID':0,'hostID':1,'size':1}]"),
	 "go together"},
	{LINUX("'namespaces':[{'type':'x'}]"), "linux.namespaces[0]"},
	{LINUX("'namespaces':[{'type':'pid'},{'type':'pid'}]"), "linux.namespaces[1]"},
	{LINUX("'namespaces':[{'type':'pid','path':'rel'}]"), "linux.namespaces[0]"},
	{LINUX("'namespaces':[{'type':'user'}]"), "linux.uidMappings"},
	{LINUX("'uidMappings':[{'containerID':0,'hostID':0,'size':0}]"), "size"},
	{LINUX("'uidMappings':[{'containerID':4294967290,'hostID':0,'size':10}]"),
	 "uidMappings[0]"},
	{LINUX("'timeOffsets':{'realtime':{'secs':1}}"), "linux.timeOffsets"},
	{LINUX("'timeOffsets':{'monotonic':{'secs':1}}"), "linux.timeOffsets"},
	{LINUX("'devices':[{'path':'/dev/x','type':'z','major':1,'minor':1}]"), "type"},
	{LINUX("'devices':[{'path':'dev/x','type':'c','major':1,'minor':1}]"), "path"},
	{LINUX("'sysctl':{'kernel.panic':'1'}"), "linux.sysctl.kernel.panic"},
	{LINUX("'sysctl':{'net.core.somaxconn':'1'}"), "linux.sysctl.net.core.somaxconn"},
	{LINUX("'namespaces':[{'type':'network'}],'sysctl':{'net/../kernel/x':'1'}"),
	 "linux.sysctl"},
	{LINUX("'rootfsPropagation':'public'"), "linux.rootfsPropagation"},
	{LINUX("'maskedPaths':['proc']"), "maskedPaths[0]"},
	{LINUX("'maskedPaths':['/proc']"), "linux.maskedPaths"},
	{LINUX("'personality':{'domain':'BSD'}"), "linux.personality.domain"},
	{LINUX("'personality':{'domain':'LINUX','flags':['X']}"), "personality.flags"},
	{LINUX("'intelRdt':{'closID':'../x'}"), "intelRdt"},
	{LINUX("'intelRdt':{'memBwSchema':'L3:0=f'}"), "intelRdt"},
	{LINUX("'intelRdt':{'memBwSchema':'MB:0=1\\nL3:0=f'}"), "intelRdt"},
	{LINUX("'intelRdt':{'schemata':['L3:0=f','x']}"), "intelRdt"},
	{LINUX("'intelRdt':{'schemata':['L3:0=f\\nMB:0=1']}"), "intelRdt"},
	{LINUX("'intelRdt':{'enableMonitoring':1}"), "intelRdt"},
	{LINUX("'netDevices':{'eth0':{}}"), "linux.netDevices"},
	{RESOURCES("'memory':{'limit':'1'}"), "linux.resources.memory.limit"},
	{RESOURCES("'memory':{'swappiness':500}"), "linux.resources.memory.swappiness"},
	{RESOURCES("'cpu':{'cpus':'0;rm'}"), "linux.resources.cpu"},
	{RESOURCES("'cpu':{'shares':-5}"), "linux.resources.cpu.shares"},
	{RESOURCES("'pids':{'limit':[]}"), "linux.resources.pids.limit"},
	{RESOURCES("'devices':[{'access':'r'}]"), "linux.resources.devices[0].allow"},
	{RESOURCES("'devices':[{'allow':true,'access':'x'}]"), "devices[0]"},
	{RESOURCES("'hugepageLimits':[{'pageSize':'../2MB','limit':1}]"), "hugepage"},
	{RESOURCES("'unified':{'cgroup.procs':'1'}"), "unified.cgroup.procs"},
	{RESOURCES("'unified':{'../x.y':'1'}"), "unified"},
	{RESOURCES("'rdma':{'mlx':{}}"), "rdma.mlx"},
	{LINUX("'seccomp':{}"), "linux.seccomp.defaultAction"},
	{LINUX("'seccomp':{'defaultAction':'X'}"), "linux.seccomp.defaultAction"},
	{LINUX("'seccomp':{'defaultAction':'SCMP_ACT_NOTIFY'}"), "defaultAction"},
	{SECCOMP("'defaultErrnoRet':5"), "defaultErrnoRet"},
	{SECCOMP("'architectures':['X']"), "architectures[0]"},
	{SECCOMP("'flags':['X']"), "flags[0]"},
	{SECCOMP("'syscalls':[{'action':'SCMP_ACT_KILL'}]"), "syscalls[0]"},
	{SECCOMP("'syscalls':[{'names':['a'],'action':'SCMP_ACT_NOTIFY'}]"), "listenerPath"},
	{SECCOMP("'syscalls':[{'names':['a'],'action':'SCMP_ACT_KILL',"
		 "'args':[{'index':6,'value':1,'op':'SCMP_CMP_EQ'}]}]"),
	 "args[0].index"},
};

static void refuses(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(refused); i++) {
		own_config struct config *c = NULL;
		struct error err = {0};
		int rc = parse(refused[i].text, &c, &err);

		if (rc >= 0 || strstr(err.text, refused[i].names) == NULL)
			fail_msg("%s: returned %d, \"%s\" does not name %s", refused[i].text, rc,
				 err.text, refused[i].names);
	}
}

static void accepts_what_others_write(void **state)
{
	static const char *const texts[] = {
		"{'ociVersion':'1.0.2-dev'}",
		WITH("'unknown':{'x':1},'process':null"),
		LINUX("'namespaces':[{'type':'pid','path':''}]"),
		LINUX("'namespaces':[{'type':'network'}],"
		      "'sysctl':{'net.ipv4.conf.eth0/1.forwarding':'1','net/core/somaxconn':'5'}"),
		LINUX("'namespaces':[{'type':'ipc'}],'sysctl':{'kernel.shm_rmid_forced':'1'}"),
		PROCESS("'capabilities':{'bounding':['CAP_NO_SUCH_THING','CAP_KILL']}"),
		"{'ociVersion':'1.2.0','process':{'args':['a',2]}}",
		MOUNT("'source':'/a','options':['bind','remount','ro','']"),
		MOUNT("'type':'none','source':'/a','options':['rbind','rw']"),
	};

	(void)state;
	for (size_t i = 0; i < array_size(texts); i++) {
		own_config struct config *c = NULL;
		struct error err = {0};

		if (parse(texts[i], &c, &err) < 0)
			fail_msg("%s: %s", texts[i], err.text);
	}
}

static void reads_unsigned_numbers(void **state)
{
	own_config struct config *c = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(parse(PROCESS("'rlimits':[{'type':'RLIMIT_NOFILE','soft':1024,"
				       "'hard':18446744073709551615}],"
				       "'env':['A=18446744073709551615']"),
			       &c, &err),
			 0);
	assert_true(c->process.rlimits[0].hard == RLIM_INFINITY);
	assert_int_equal(c->process.rlimits[0].soft, 1024);
	assert_string_equal(c->process.env[0], "A=18446744073709551615");
}

static void sorts_mount_options(void **state)
{
	own_config struct config *c = NULL;
	struct error err = {0};
	const struct config_mount *m;

	(void)state;
	assert_int_equal(parse(MOUNT("'type':'tmpfs','options':['ro','nosuid','suid','noatime',"
				     "'size=1m','mode=755','rslave','dirsync']"),
			       &c, &err),
			 0);
	m = &c->mounts[0];
	assert_false(m->bind);
	assert_int_equal(m->attr_set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME);
	assert_true(m->attr_clear & MOUNT_ATTR_NOSUID);
	assert_int_equal(m->propagation_count, 1);
	assert_int_equal(m->propagation[0], MS_SLAVE | MS_REC);
	assert_string_equal(m->data[0], "size=1m");
	assert_string_equal(m->data[1], "mode=755");
	assert_null(m->data[2]);
	assert_int_equal(m->super_flags, MS_DIRSYNC);
}

static void filters_with_other_content_have_other_digests(void **state)
{
	static const char *const texts[] = {
		SECCOMP("'syscalls':[{'names':['read'],'action':'SCMP_ACT_KILL'}]"),
		SECCOMP("'syscalls':[{'names':['write'],'action':'SCMP_ACT_KILL'}]"),
		SECCOMP("'syscalls':[{'names':['read'],'action':'SCMP_ACT_ERRNO'}]"),
		SECCOMP("'syscalls':[{'names':['read'],'action':'SCMP_ACT_ERRNO','errnoRet':5}]"),
		SECCOMP("'architectures':['SCMP_ARCH_X86'],"
			"'syscalls':[{'names':['read'],'action':'SCMP_ACT_KILL'}]"),
		SECCOMP("'syscalls':[{'names':['read'],'action':'SCMP_ACT_KILL',"
			"'args':[{'index':0,'value':1,'op':'SCMP_CMP_EQ'}]}]"),
		SECCOMP("'syscalls':[{'names':['read'],'action':'SCMP_ACT_KILL',"
			"'args':[{'index':0,'value':1,'op':'SCMP_CMP_NE'}]}]"),
	};
	struct digest digests[array_size(texts)];

	(void)state;
	for (size_t i = 0; i < array_size(texts); i++) {
		own_config struct config *c = NULL;
		struct error err = {0};

		assert_int_equal(parse(texts[i], &c, &err), 0);
		digests[i] = c->linux_.seccomp.content;
		for (size_t k = 0; k < i; k++)
			assert_false(digest_eq(&digests[k], &digests[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses),
		cmocka_unit_test(accepts_what_others_write),
		cmocka_unit_test(reads_unsigned_numbers),
		cmocka_unit_test(sorts_mount_options),
		cmocka_unit_test(filters_with_other_content_have_other_digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
