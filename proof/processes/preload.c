/* Loaded into a node before the C library, by LD_PRELOAD: syncs that hang while they are told to,
 * and a wall clock that is off by what it is told. Everything else of the process goes on.
 *
 * Told by a shared file of 64-bit words, whose path is in NODE_GRIP; proof/processes/preload.py has
 * the same layout. Without that variable nothing changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct grip {
    volatile int64_t hang;      /* not 0: syncs wait */
    volatile int64_t offset_ns; /* added to the wall clock */
    volatile int64_t hung;      /* syncs that had to wait, ever */
    volatile int64_t shifted;   /* readings of a wall clock that was off, ever */
};

static struct grip still;
static struct grip *grip = &still;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("NODE_GRIP");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof(struct grip), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED) grip = found;
}

static void wait_for_disk(void) {
    if (!grip->hang) return;
    __atomic_fetch_add(&grip->hung, 1, __ATOMIC_RELAXED);
    struct timespec poll = {0, 2000000};
    while (grip->hang) nanosleep(&poll, NULL);
}

static int64_t offset_ns(void) {
    int64_t offset = grip->offset_ns;
    if (offset) __atomic_fetch_add(&grip->shifted, 1, __ATOMIC_RELAXED);
    return offset;
}

int fsync(int file) {
    REAL(fsync);
    wait_for_disk();
    return real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    wait_for_disk();
    return real(file);
}

int msync(void *address, size_t length, int flags) {
    REAL(msync);
    wait_for_disk();
    return real(address, length, flags);
}

int sync_file_range(int file, off64_t offset, off64_t length, unsigned int flags) {
    REAL(sync_file_range);
    wait_for_disk();
    return real(file, offset, length, flags);
}

/* A write that is itself a sync, as the log makes it. The C library has it by two names. */
ssize_t pwritev2(int file, const struct iovec *parts, int count, off_t offset, int flags) {
    REAL(pwritev2);
    if (flags & (RWF_DSYNC | RWF_SYNC)) wait_for_disk();
    return real(file, parts, count, offset, flags);
}

ssize_t pwritev64v2(int file, const struct iovec *parts, int count, off64_t offset, int flags) {
    REAL(pwritev64v2);
    if (flags & (RWF_DSYNC | RWF_SYNC)) wait_for_disk();
    return real(file, parts, count, offset, flags);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    REAL(clock_gettime);
    int failed = real(clock, at);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    int64_t offset = offset_ns();
    if (offset) {
        int64_t ns = at->tv_nsec + offset % 1000000000;
        at->tv_sec += offset / 1000000000;
        if (ns < 0) ns += 1000000000, at->tv_sec--;
        if (ns >= 1000000000) ns -= 1000000000, at->tv_sec++;
        at->tv_nsec = ns;
    }
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone; /* obsolete, and nobody here asks for it */
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
