/* Preloaded into a process: writes down, in order, what it does to the files below $FAULTS_UNDER, into $FAULTS_LOG.
 *
 * One record: kind (1 byte), flags (1 byte: 1 = the write is synchronous), length of the path (2), of the data (8),
 * offset in the file (8), all little-endian; then path and data. Kinds: W write, T truncate to offset, S sync,
 * C create, D mkdir, R rename (the data is the new path), U unlink. A part that is zeroed is a write of zeros.
 *
 * The programs that the process starts are recorded as well, whatever environment it gives them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int log_fd = -1;
static const char *under;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("FAULTS_LOG");
	under = getenv("FAULTS_UNDER");
	if (path && under)
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int watched(const char *path)
{
	return log_fd >= 0 && path && strncmp(path, under, strlen(under)) == 0;
}

static void note(char kind, int sync, const char *path, uint64_t offset, const void *data, uint64_t length)
{
	unsigned char head[20];
	uint16_t path_length = (uint16_t)strlen(path);
	struct iovec parts[3] = {{head, sizeof(head)}, {(void *)path, path_length}, {(void *)data, length}};
	int saved = errno;

	head[0] = (unsigned char)kind;
	head[1] = (unsigned char)sync;
	memcpy(head + 2, &path_length, 2);
	memcpy(head + 4, &length, 8);
	memcpy(head + 12, &offset, 8);
	if (syscall(SYS_writev, log_fd, parts, 3) != (long)(sizeof(head) + path_length + length))
		abort();
	errno = saved;
}

static int path_of(int fd, char *path)
{
	char link[64];
	ssize_t length;

	if (log_fd < 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, PATH_MAX - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	return watched(path);
}

static void note_write(int fd, uint64_t offset, const void *data, ssize_t written)
{
	char path[PATH_MAX];

	if (written > 0 && path_of(fd, path))
		note('W', (fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC)) != 0, path, offset, data, (uint64_t)written);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t length)
{
	ssize_t done = NEXT(write)(fd, data, length);
	off64_t end;
	char path[PATH_MAX];

	if (done > 0 && path_of(fd, path)) {
		end = lseek64(fd, 0, SEEK_CUR);
		note_write(fd, (uint64_t)(end - done), data, done);
	}
	return done;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	ssize_t done = NEXT(pwrite64)(fd, data, length, offset);

	note_write(fd, (uint64_t)offset, data, done);
	return done;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	return pwrite64(fd, data, length, offset);
}

/* What nobody here uses, and what would go unseen: then the recording is worth nothing. */
#define UNSEEN(result, name, arguments, fd, call) \
	result name arguments \
	{ \
		char path[PATH_MAX]; \
		if (path_of(fd, path)) \
			abort(); \
		return NEXT(name) call; \
	}
UNSEEN(ssize_t, writev, (int fd, const struct iovec *parts, int count), fd, (fd, parts, count))
UNSEEN(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t offset), fd, (fd, parts, count, offset))
UNSEEN(ssize_t, copy_file_range, (int in, off64_t *from, int fd, off64_t *to, size_t length, unsigned flags), fd,
       (in, from, fd, to, length, flags))

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	int done = NEXT(fallocate64)(fd, mode, offset, length);
	char path[PATH_MAX];
	void *zeros;

	if (done < 0 || !path_of(fd, path))
		return done;
	zeros = calloc(1, (size_t)length);
	if (!zeros || !(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		abort();
	note('W', 0, path, (uint64_t)offset, zeros, (uint64_t)length);
	free(zeros);
	return done;
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	return fallocate64(fd, mode, offset, length);
}

static void note_sync(int fd, int done)
{
	char path[PATH_MAX];

	if (done == 0 && path_of(fd, path))
		note('S', 0, path, 0, "", 0);
}

int fsync(int fd)
{
	int done = NEXT(fsync)(fd);

	note_sync(fd, done);
	return done;
}

int fdatasync(int fd)
{
	int done = NEXT(fdatasync)(fd);

	note_sync(fd, done);
	return done;
}

int ftruncate64(int fd, off64_t length)
{
	int done = NEXT(ftruncate64)(fd, length);
	char path[PATH_MAX];

	if (done == 0 && path_of(fd, path))
		note('T', 0, path, (uint64_t)length, "", 0);
	return done;
}

int ftruncate(int fd, off_t length)
{
	return ftruncate64(fd, length);
}

int rename(const char *from, const char *to)
{
	int done = NEXT(rename)(from, to);

	if (done == 0 && watched(from))
		note('R', 0, from, 0, to, strlen(to));
	return done;
}

int unlink(const char *path)
{
	int done = NEXT(unlink)(path);

	if (done == 0 && watched(path))
		note('U', 0, path, 0, "", 0);
	return done;
}

int mkdir(const char *path, mode_t mode)
{
	int done = NEXT(mkdir)(path, mode);

	if (done == 0 && watched(path))
		note('D', 0, path, 0, "", 0);
	return done;
}

/* Called after a vfork, so it allocates nothing. */
int execve(const char *path, char *const arguments[], char *const given[])
{
	static const char *const ours[] = {"LD_PRELOAD=", "FAULTS_LOG=", "FAULTS_UNDER="};
	const int count = sizeof(ours) / sizeof(ours[0]);
	int length = 0, kept = 0;

	while (given[length])
		length++;
	char *handed[length + count + 1];
	for (int number = 0; number < length; number++) {
		int replaced = 0;
		for (int which = 0; which < count; which++)
			replaced |= strncmp(given[number], ours[which], strlen(ours[which])) == 0;
		if (!replaced)
			handed[kept++] = given[number];
	}
	for (int which = 0; which < count; which++)
		for (char **one = environ; *one; one++)
			if (strncmp(*one, ours[which], strlen(ours[which])) == 0)
				handed[kept++] = *one;
	handed[kept] = NULL;
	return NEXT(execve)(path, arguments, handed);
}

int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	int fresh, fd;
	va_list more;

	va_start(more, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(more, mode_t);
	va_end(more);
	fresh = (flags & O_CREAT) && watched(path) && access(path, F_OK) != 0;
	fd = NEXT(open64)(path, flags, mode);
	if (fd >= 0 && fresh)
		note('C', 0, path, 0, "", 0);
	if (fd >= 0 && !fresh && (flags & O_TRUNC) && watched(path))
		note('T', 0, path, 0, "", 0);
	return fd;
}

int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list more;

	va_start(more, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(more, mode_t);
	va_end(more);
	return open64(path, flags, mode);
}
