/* Preloaded into a process: what it does to a part of one file ends with EIO, as on a disk that fails there.
 *
 * $FAULTS_FAIL is "KIND FROM TO AFTER PATH": KIND is r (reads), w (writes) or s (syncs, FROM and TO are ignored), FROM and
 * TO are bytes of the file, and the first AFTER calls that touch them still succeed. Each failure adds a byte to
 * $FAULTS_FAILED.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char kind, target[PATH_MAX];
static unsigned long long from, to, after;

__attribute__((constructor)) static void begin(void)
{
	const char *text = getenv("FAULTS_FAIL");

	if (text && sscanf(text, "%c %llu %llu %llu %4095[^\n]", &kind, &from, &to, &after, target) != 5)
		abort();
}

static int is_target(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	return strcmp(path, target) == 0;
}

/* Fails what touches the part, once AFTER calls have. */
static int fails(char what, int fd, uint64_t offset, uint64_t length)
{
	const char *noted = getenv("FAULTS_FAILED");
	int saved = errno, log;

	if (what != kind || !is_target(fd) || (what != 's' && (offset >= to || offset + length <= from))) {
		errno = saved;
		return 0;
	}
	if (after > 0) {
		after--;
		errno = saved;
		return 0;
	}
	log = (int)syscall(SYS_openat, AT_FDCWD, noted, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log < 0 || syscall(SYS_write, log, "x", 1) != 1)
		abort();
	syscall(SYS_close, log);
	errno = EIO;
	return 1;
}

static uint64_t here(int fd)
{
	int saved = errno;
	off64_t found = lseek64(fd, 0, SEEK_CUR);

	errno = saved;
	return found < 0 ? 0 : (uint64_t)found;
}

static uint64_t length_of(const struct iovec *parts, int count)
{
	uint64_t sum = 0;

	for (int number = 0; number < count; number++)
		sum += parts[number].iov_len;
	return sum;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAILING(result, name, arguments, call, what, offset, length) \
	result name arguments \
	{ \
		if (fails(what, fd, offset, length)) \
			return -1; \
		return NEXT(name) call; \
	}

FAILING(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), 'r', here(fd), size)
FAILING(ssize_t, pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at), 'r', (uint64_t)at, size)
FAILING(ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at), 'r', (uint64_t)at, size)
FAILING(ssize_t, preadv, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), 'r',
	(uint64_t)at, length_of(parts, count))
FAILING(ssize_t, preadv64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at), 'r',
	(uint64_t)at, length_of(parts, count))
FAILING(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), 'w', here(fd), size)
FAILING(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), 'w', (uint64_t)at, size)
FAILING(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), 'w', (uint64_t)at,
	size)
FAILING(int, fsync, (int fd), (fd), 's', 0, 0)
FAILING(int, fdatasync, (int fd), (fd), 's', 0, 0)
