// Loaded into componentize-py (LD_PRELOAD): the same random numbers, time and attributes of files in each run, so that
// the same source makes the same base, to the byte. CPython is started and snapshotted in that process, and its hash
// seed, its caches of directories and the states of its generators are part of the snapshot.

#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// SplitMix64. A state for each thread, since the order between threads differs from run to run.
static uint64_t next(void) {
    static _Thread_local uint64_t state;
    uint64_t mixed = state += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return mixed ^ (mixed >> 31);
}

ssize_t getrandom(void *buffer, size_t len, unsigned flags) {
    (void)flags;
    for (size_t at = 0; at < len; at += sizeof(uint64_t)) {
        uint64_t value = next();
        memcpy((char *)buffer + at, &value, len - at < sizeof value ? len - at : sizeof value);
    }
    return (ssize_t)len;
}

// Advances with each read, so that a wait for a later time ends.
int clock_gettime(clockid_t id, struct timespec *time) {
    (void)id;
    static _Thread_local int64_t ns = 1000000000000000;
    int64_t now = ns += 1000;
    time->tv_sec = now / 1000000000;
    time->tv_nsec = now % 1000000000;
    return 0;
}

int statx(int directory, const char *path, int flags, unsigned mask, struct statx *found) {
    long result = syscall(SYS_statx, directory, path, flags, mask, found);
    if (result == 0) {
        memset(&found->stx_atime, 0, sizeof found->stx_atime);
        memset(&found->stx_btime, 0, sizeof found->stx_btime);
        memset(&found->stx_ctime, 0, sizeof found->stx_ctime);
        memset(&found->stx_mtime, 0, sizeof found->stx_mtime);
        found->stx_ino = 1;
        found->stx_dev_major = found->stx_dev_minor = 1;
    }
    return (int)result;
}
