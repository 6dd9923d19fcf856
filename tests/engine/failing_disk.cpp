// Preloaded into a test's process: makes the n-th file operation under a folder fail, as a full or dying disk would.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[PATH_MAX];
static long seen, failing_from;
static int error_number, for_good;

extern "C" void fault_arm(const char* folder, long n, int error, int sticky) {
  seen = 0, failing_from = n, error_number = error, for_good = sticky;
  snprintf(root, sizeof root, "%s", folder);
}

// Operations seen since arming.
extern "C" long fault_disarm() {
  root[0] = 0;
  return seen;
}

static bool fails(const char* path) {
  if (!root[0] || strncmp(path, root, strlen(root)) != 0) return false;
  const long number = seen++;
  if (number != failing_from && !(for_good && number > failing_from)) return false;
  errno = error_number;
  return true;
}

static bool fails(int descriptor) {
  char link[64], path[PATH_MAX];
  if (!root[0]) return false;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  path[length < 0 ? 0 : length] = 0;
  return fails(path);
}

template <class F>
static F real(F, const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

#define OPEN(name)                                                   \
  extern "C" int name(const char* path, int flags, ...) {            \
    va_list rest;                                                    \
    va_start(rest, flags);                                           \
    const int mode = va_arg(rest, int);                              \
    va_end(rest);                                                    \
    return fails(path) ? -1 : real(&name, #name)(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

// A failing write leaves the first half of its bytes behind.
extern "C" ssize_t write(int descriptor, const void* bytes, size_t count) {
  const bool failing = fails(descriptor);
  const ssize_t written = real(&write, "write")(descriptor, bytes, failing ? count / 2 : count);
  if (failing) errno = error_number;
  return failing ? -1 : written;
}

extern "C" int fsync(int descriptor) { return fails(descriptor) ? -1 : real(&fsync, "fsync")(descriptor); }
extern "C" int rename(const char* from, const char* to) noexcept { return fails(to) ? -1 : real(&rename, "rename")(from, to); }
extern "C" int link(const char* from, const char* to) noexcept { return fails(to) ? -1 : real(&link, "link")(from, to); }
// Of a folder that exists a real disk says so, whatever its state.
extern "C" int mkdir(const char* path, mode_t mode) noexcept {
  return access(path, F_OK) != 0 && fails(path) ? -1 : real(&mkdir, "mkdir")(path, mode);
}
