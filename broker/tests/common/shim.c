/* Stands before the C library, and lies to one process about its clocks as the test says.
 *
 * The test writes a struct of this shape into the file that SHIM_CONTROL names. The wall clock is
 * off by its seconds. A thread whose name it has finds its monotonic clock broken, which Rust's
 * library takes for the end: it panics in that thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t wall_off_s;
    char broken_thread[16];
};

static const volatile struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_CONTROL");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *seen = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (seen != MAP_FAILED)
        control = seen;
}

static int is_broken(void) {
    char name[16] = "", broken[16];
    if (!control || !control->broken_thread[0])
        return 0;
    for (int at = 0; at < 16; at++)
        broken[at] = control->broken_thread[at];
    prctl(PR_GET_NAME, name);
    return strncmp(name, broken, sizeof name) == 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (clock == CLOCK_MONOTONIC && is_broken()) {
        errno = EINVAL;
        return -1;
    }
    int result = syscall(SYS_clock_gettime, clock, time);
    if (control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += control->wall_off_s;
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    int result = syscall(SYS_gettimeofday, time, zone);
    if (control && time)
        time->tv_sec += control->wall_off_s;
    return result;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}
