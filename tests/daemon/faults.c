/* What a test can do to a running program, by LD_PRELOAD. FAULTS names a directory; a file there is a fault in force:
 *
 *   clock      the wall clock is off by so many seconds (a decimal number in the file)
 *   read-only  a file system that the kernel has remounted read-only: nothing more can be written
 *              to what lies below the directory that the file names
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Reads a fault's file. Returns whether the fault is in force. */
static int fault(const char *name, char *content, size_t size)
{
    const char *directory = getenv("FAULTS");
    char path[PATH_MAX];
    int before = errno, file;
    ssize_t length = -1;

    content[0] = '\0';
    if (directory == NULL || snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return 0;
    file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        length = syscall(SYS_read, file, content, size - 1);
        content[length > 0 ? length : 0] = '\0';
        syscall(SYS_close, file);
    }
    errno = before;
    return length >= 0;
}

/* ---- the clock */

static time_t shift(void)
{
    char seconds[32];
    return fault("clock", seconds, sizeof seconds) ? (time_t)atoll(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int failed = (int)syscall(SYS_gettimeofday, now, zone);
    if (!failed)
        now->tv_sec += shift();
    return failed;
}

time_t time(time_t *now)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now != NULL)
        *now = exact.tv_sec;
    return exact.tv_sec;
}

/* ---- the file system */

static int refused(const char *path)
{
    char directory[PATH_MAX];
    return fault("read-only", directory, sizeof directory) && strncmp(path, directory, strlen(directory)) == 0;
}

static int refused_file(int file)
{
    char link[64], path[PATH_MAX];
    int before = errno;
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = '\0';
    return refused(path);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset)
{
    if (refused_file(file)) {
        errno = EROFS;
        return -1;
    }
    return syscall(SYS_pwrite64, file, data, size, offset);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset)
{
    return pwrite64(file, data, size, offset);
}

static int open_at(const char *path, int flags, mode_t mode)
{
    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && refused(path)) {
        errno = EROFS;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    return open_at(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    return open_at(path, flags, mode);
}
