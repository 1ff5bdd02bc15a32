// Stands between the gateway and the kernel's calls that make files durable, on the real binary.
//
// OPENCLAWMU_TEST_SYNC_FAILS names a file. While it exists, a sync of a file whose path contains its text fails with EIO, and
// what was written since the last good sync is gone, as on a file system that drops the pages that it could not write.
// OPENCLAWMU_TEST_SYNC_LOG names a file that gets a line for each reservation, each sync of the in-flight table and each
// write to the port OPENCLAWMU_TEST_UPSTREAM_PORT, in their order. A reservation that is stored through shared memory makes no call:
// it is found in the table before the next such event.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SLOT_BYTES 256
#define FILES 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// As the kernel does, a failure is reported once through each descriptor.
static int failures, reported[FILES];

static void say(const char *what) {
    const char *path = getenv("OPENCLAWMU_TEST_SYNC_LOG");
    if (!path) return;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) abort();
    dprintf(fd, "%s\n", what);
    close(fd);
}

static int path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

// The journals of what is settled stand beside the table, and are synced at any time: no request waits for them.
static int is_table(int fd) {
    char path[4096];
    return path_of(fd, path, sizeof path) && strstr(path, "/inflight/") && !strstr(path, ".settled-");
}

// The table that is mapped: a descriptor of its own, and the newest reservation that was told.
static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;
static int table = -1;
static int64_t newest;

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t from) {
    void *(*real)(void *, size_t, int, int, int, off64_t) = dlsym(RTLD_NEXT, "mmap64");
    void *result = real(at, length, protection, flags, fd, from);
    if (result != MAP_FAILED && fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE) && is_table(fd)) {
        table = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (table < 0) abort();
    }
    return result;
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t from) {
    return mmap64(at, length, protection, flags, fd, from);
}

// Tells of reservations that are there and were not told yet: their ids, the second word of a slot, only grow.
static void look(void) {
    pthread_mutex_lock(&looking);
    int64_t slot[SLOT_BYTES / 8], last = newest;
    for (off_t at = 0; table >= 0 && pread(table, slot, sizeof slot, at) == sizeof slot; at += sizeof slot)
        if (slot[1] > newest) {
            say("reserved");
            if (slot[1] > last) last = slot[1];
        }
    newest = last;
    pthread_mutex_unlock(&looking);
}

// Where the last good state of a write-ahead log is kept; only logs are small enough and written by one thread.
static int shadow_of(const char *path, char *shadow, size_t size) {
    size_t length = strlen(path);
    if (length < 4 || strcmp(path + length - 4, "-wal")) return 0;
    snprintf(shadow, size, "%s.synced", path);
    return 1;
}

static void copy(const char *from, const char *to) {
    char buffer[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (out < 0) abort();
    off_t at = 0;
    ssize_t got;
    while (in >= 0 && (got = read(in, buffer, sizeof buffer)) > 0) {
        if (write(out, buffer, got) != got) abort();
        at += got;
    }
    if (ftruncate(out, at)) abort();
    if (in >= 0) close(in);
    close(out);
}

static int told_to_fail(const char *path) {
    const char *control = getenv("OPENCLAWMU_TEST_SYNC_FAILS");
    char which[256] = {0};
    int fd = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t length = read(fd, which, sizeof which - 1);
    close(fd);
    return length > 0 && strstr(path, which) != NULL;
}

static int synced(int fd, const char *name) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    char path[4096], shadow[4200];
    if (!path_of(fd, path, sizeof path)) return real(fd);
    int of_table = is_table(fd), has_shadow = shadow_of(path, shadow, sizeof shadow) && getenv("OPENCLAWMU_TEST_SYNC_FAILS");
    if (of_table) {
        look();
        say("sync begins");
    }
    pthread_mutex_lock(&lock);
    int result = 0;
    if (told_to_fail(path)) {
        if (has_shadow) {
            copy(shadow, path);
            failures++;
            if (fd < FILES) reported[fd] = failures;
        }
        errno = EIO;
        result = -1;
    } else if (has_shadow && fd < FILES && reported[fd] != failures) {
        reported[fd] = failures;
        errno = EIO;
        result = -1;
    } else {
        result = real(fd);
        if (!result && has_shadow) copy(path, shadow);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    if (of_table) say(result ? "sync failed" : "synced");
    errno = error;
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

static int is_zeros(const char *bytes, size_t count) {
    while (count--)
        if (bytes[count]) return 0;
    return 1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    ssize_t result = real(fd, bytes, count, at);
    // A whole slot that is not zeros is a reservation.
    if (count == SLOT_BYTES && at % SLOT_BYTES == 0 && !is_zeros(bytes, count) && is_table(fd)) say("reserved");
    return result;
}

static void sending(int fd) {
    const char *port = getenv("OPENCLAWMU_TEST_UPSTREAM_PORT");
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    if (port && !getpeername(fd, (struct sockaddr *)&peer, &size) && peer.sin_family == AF_INET
        && ntohs(peer.sin_port) == atoi(port)) {
        look();
        say("sent upstream");
    }
}

ssize_t send(int fd, const void *bytes, size_t count, int flags) {
    ssize_t (*real)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
    sending(fd);
    return real(fd, bytes, count, flags);
}

ssize_t sendto(int fd, const void *bytes, size_t count, int flags, const struct sockaddr *to, socklen_t size) {
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    sending(fd);
    return real(fd, bytes, count, flags, to, size);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
    sending(fd);
    return real(fd, message, flags);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    sending(fd);
    return real(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    sending(fd);
    return real(fd, pieces, count);
}
