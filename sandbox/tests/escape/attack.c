/* What a hostile program does, one deed a word: run inside a sandbox, and outside it where the deed must succeed. It is linked
 * statically, so that it runs in every root file system, and makes its system calls by number, so that no library stands
 * between it and the kernel. It prints what came of it, and harms nothing where it is allowed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char zeros[1 << 16];
static char ones[1 << 16];

/* A number, `@` for a buffer of zeros, or `@text` for a string. */
static long argument(const char *text) {
    if (text[0] != '@')
        return (long)strtoull(text, NULL, 0);
    return text[1] ? (long)(text + 1) : (long)zeros;
}

static int call(int count, char **words) {
    long args[7] = {0};
    for (int at = 0; at < count && at < 7; at++)
        args[at] = argument(words[at]);
    errno = 0;
    long got = syscall(args[0], args[1], args[2], args[3], args[4], args[5], args[6]);
    printf("%s %d\n", got == -1 ? "refused" : "done", errno);
    return 0;
}

#ifdef __x86_64__
/* The same kernel by its older door, where numbers mean other calls. */
static int int80(int number) {
    int got;
    __asm__ volatile("int $0x80" : "=a"(got) : "a"(number), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
    printf("%s %d\n", got < 0 ? "refused" : "done", got < 0 ? -got : 0);
    return 0;
}
#endif

static int hog(unsigned long bytes) {
    for (unsigned long held = 0; held < bytes; held += sizeof ones) {
        char *piece = malloc(sizeof ones);
        if (!piece)
            return 7;
        memset(piece, 1, sizeof ones);
    }
    puts("held");
    return 0;
}

static void spin(void) {
    for (volatile unsigned long turn = 0;; turn++)
        ;
}

static int children(int count, int deaf) {
    for (int at = 0; at < count; at++) {
        if (fork() == 0) {
            if (deaf) {
                signal(SIGTERM, SIG_IGN);
                signal(SIGINT, SIG_IGN);
                signal(SIGHUP, SIG_IGN);
            }
            for (;;)
                pause();
        }
    }
    puts("born");
    fflush(stdout);
    for (;;)
        pause();
}

/* Leaves its session, its parent and its output, and stays. */
static int daemonise(void) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            for (int fd = 0; fd < 3; fd++)
                close(fd);
            for (;;)
                pause();
        }
        _exit(0);
    }
    wait(NULL);
    puts("left");
    return 0;
}

static int flood(int fd, unsigned long bytes) {
    memset(ones, 'y', sizeof ones);
    for (unsigned long written = 0; written < bytes;) {
        unsigned long left = bytes - written;
        ssize_t got = write(fd, ones, left < sizeof ones ? left : sizeof ones);
        if (got < 0)
            return 7;
        written += (unsigned long)got;
    }
    return 0;
}

static int fill(const char *path, unsigned long bytes) {
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd < 0 || flood(fd, bytes) != 0) {
        printf("refused %d\n", errno);
        return 0;
    }
    puts("done 0");
    return 0;
}

static int names(const char *dir, unsigned long count) {
    char path[512];
    for (unsigned long at = 0; at < count; at++) {
        snprintf(path, sizeof path, "%s/%lu", dir, at);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        if (fd < 0) {
            printf("refused %d\n", errno);
            return 0;
        }
        close(fd);
    }
    puts("done 0");
    return 0;
}

static int sparse(const char *path, unsigned long bytes) {
    signal(SIGXFSZ, SIG_IGN);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    int got = ftruncate(fd, (off_t)bytes);
    printf("%s %d\n", got < 0 ? "refused" : "done", got < 0 ? errno : 0);
    return 0;
}

static int descriptors(void) {
    for (int fd = 0; fd < 65536; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("%d ", fd);
    puts("");
    return 0;
}

/* Whether a text is anywhere in a file. It comes in two halves, so that it is not in this program's own arguments. */
static int look(const char *path, const char *half, const char *rest) {
    char text[1024];
    snprintf(text, sizeof text, "%s%s", half, rest);
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        printf("refused %d\n", errno);
        return 0;
    }
    static char all[1 << 20];
    size_t held = 0, length = strlen(text);
    for (ssize_t got; (got = read(fd, all + held, sizeof all - held)) > 0;)
        held += (size_t)got;
    int found = held >= length && memmem(all, held, text, length) != NULL;
    printf("%s %zu\n", found ? "found" : "absent", held);
    return 0;
}

static int connect_to(const char *address, int port, int type) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int is_six = inet_pton(AF_INET6, address, &six.sin6_addr) == 1;
    if (!is_six && inet_pton(AF_INET, address, &four.sin_addr) != 1)
        return 7;
    int fd = socket(is_six ? AF_INET6 : AF_INET, type, 0);
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int got = is_six ? connect(fd, (struct sockaddr *)&six, sizeof six) : connect(fd, (struct sockaddr *)&four, sizeof four);
    if (got == 0 && type == SOCK_DGRAM)
        got = send(fd, "x", 1, 0) == 1 ? 0 : -1;
    printf("%s %d\n", got < 0 ? "refused" : "done", got < 0 ? errno : 0);
    return 0;
}

int main(int count, char **words) {
    if (count < 2)
        return 64;
    const char *deed = words[1];
    const char *first = count > 2 ? words[2] : "0";
    const char *second = count > 3 ? words[3] : "0";
    unsigned long number = strtoul(first, NULL, 0), other = strtoul(second, NULL, 0);
    if (!strcmp(deed, "call"))
        return call(count - 2, words + 2);
#ifdef __x86_64__
    if (!strcmp(deed, "int80"))
        return int80((int)number);
#endif
    if (!strcmp(deed, "exit"))
        return (int)number;
    if (!strcmp(deed, "die")) {
        signal((int)number, SIG_DFL);
        raise((int)number);
        pause();
    }
    if (!strcmp(deed, "hog"))
        return hog(number);
    if (!strcmp(deed, "spin"))
        spin();
    if (!strcmp(deed, "bomb"))
        for (;;)
            fork();
    if (!strcmp(deed, "children"))
        return children((int)number, 0);
    if (!strcmp(deed, "deaf"))
        return children((int)number, 1);
    if (!strcmp(deed, "daemon"))
        return daemonise();
    if (!strcmp(deed, "flood"))
        return flood((int)number, other);
    if (!strcmp(deed, "silent")) {
        close(1);
        close(2);
        for (;;)
            pause();
    }
    if (!strcmp(deed, "fill"))
        return fill(first, other);
    if (!strcmp(deed, "names"))
        return names(first, other);
    if (!strcmp(deed, "sparse"))
        return sparse(first, other);
    if (!strcmp(deed, "descriptors"))
        return descriptors();
    if (!strcmp(deed, "look"))
        return look(first, second, count > 4 ? words[4] : "");
    if (!strcmp(deed, "tcp"))
        return connect_to(first, (int)other, SOCK_STREAM);
    if (!strcmp(deed, "udp"))
        return connect_to(first, (int)other, SOCK_DGRAM);
    if (!strcmp(deed, "stop")) {
        kill(0, SIGSTOP);
        return 0;
    }
    return 64;
}
