/*
 * protocol: what the engine and the agent in a virtual machine say to each other, over vsock.
 *
 * The agent listens on AGENT_PORT. Every connection begins with one message of the engine, and the
 * agent's answer to it:
 *
 *     {"version":1}                  a control connection: requests, answers, events follow
 *     {"version":1,"stream":NAME}    a stream: after the answer, nothing but the bytes of a process's
 *                                    input, output, or terminal
 *     {}  or  {"error":{...}}        the answer
 *
 * A message is four bytes of length, the lowest first, and so many bytes of JSON, an object (frame.h).
 * A stream is used by the first request that names it; a name is used once. Both ends of a stream may
 * close their half on its own (shutdown): that is the end of input or output, as with a pipe.
 *
 * Requests carry an "id", which the answer has, too. Answers come in the order of the requests.
 *
 *     {"id":1,"do":"prepare", "time":ns, "seed":hex, "hostname":..., "root":{...}, "files":[...],
 *      "limits":[[resource,soft,hard],...], "sysctls":{...}, "shares":[tags],
 *      "network":[...]}                         once; then
 *     {"id":0,"do":"warm","spec":{config.json}, "files":[...], "network":[], "root":{...}}
 *                                              before a template is made of the machine
 *     {"id":2,"do":"run", "spec":{config.json}, "user":{...}, "streams":[in,out,err],
 *      "terminal":stream, "reaper":bool, "disks":[...], "allDevices":bool}   -> {"process":0}
 *     {"id":3,"do":"exec", "spec":{process}, ...the same}     -> {"process":n}
 *     {"id":4,"do":"signal","process":n,"signal":s,"all":bool}
 *     {"id":5,"do":"resize","process":n,"rows":r,"columns":c}
 *     {"id":6,"do":"pause"} {"do":"resume"} {"do":"stats"} {"do":"top"} {"do":"sync"}
 *     {"id":7,"do":"finish"}                    instead of "run": unmount the file systems
 *
 * "run" may have "same":[["mounts"],["linux","seccomp"],...]: members of "spec", of its own or one below, that
 * are absent as they are those that "warm" had.
 *
 *     answer   {"id":n, ...} or {"id":n,"error":{"code":-errno,"status":exit status or 0,
 *              "text":..., "hint":...}}
 *     event    {"event":"exit","process":n,"code":0-255,"oom":number of processes killed}
 *              to the connection that made the process, after all of its output is in its streams
 *
 * One request takes its connection over, which is not for requests any more:
 *
 *     {"do":"files","verb":v,"path":bytes, ...}     the workload's files, for one that runs as it sees
 *                                                   them; bytes in base 16
 *         stat                                      -> {"mode","size","mtime_ns","target":bytes}
 *         changes  "stubs":[paths],"names":bool     -> what it wrote, as a layer's tar (tar/pack.h)
 *         tree                                      -> all of it but for mounts, as a tar
 *         read     "as":bytes                       -> the path under that name, as a tar
 *         write    "archive":bool                   <- a tar, which goes into the directory
 *
 * A tar is pieces (chunk.h); one that is to be received is asked for with a first {}. Behind it, and before the end of one that is received if it fails, the agent
 * sends {} or {"error":{...}}, and the connection ends.
 *
 * A process ends with the connection that made it. When process 0 has ended, all others are killed and
 * the file systems are unmounted before the event is sent: the machine may be switched off then.
 */
#pragma once

/* Where the agent keeps its things in the machine: the workload's root file system is at "root" below
 * it, the files of "prepare" are in "files". */
#define AGENT_DIRECTORY "/run/berth"

enum {
	AGENT_VERSION = 1,
	AGENT_PORT = 1024,
	AGENT_SEED_BYTES = 64,
	AGENT_STREAMS_MAX = 64, /* that wait to be used */
};
