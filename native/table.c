/* The function table: libraries are opened at their first use, and every declared function is looked up once.
 *
 * `functions[]`, `FUNCTION_COUNT` and the libraries' numbers are generated from decl/ by the build. A function that the
 * library lacks keeps a NULL address; calling it returns -ENOSYS (or NULL, or 0).
 */

static const char *const default_sonames[] = {"libcryptsetup.so.12", "libblkid.so.1"};
static int library_opened[LIBRARY_COUNT];
static char library_error[LIBRARY_COUNT][256];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

/* Resolve every function of `library` from `soname`; 0, or -1 with the reason kept. Call with the lock held. */
static int resolve(int library, const char *soname)
{
    void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    int i;

    if (handle == NULL) {
        const char *reason = dlerror();
        snprintf(library_error[library], sizeof(library_error[library]), "%s", reason ? reason : soname);
        return -1;
    }
    for (i = 0; i < FUNCTION_COUNT; i++)
        if (functions[i].library == library)
            functions[i].address = dlsym(handle, functions[i].name);
    library_error[library][0] = '\0';
    __atomic_store_n(&library_opened[library], 1, __ATOMIC_RELEASE);
    return 0;
}

/* Return the address of function `index`, opening its library first if nobody did; NULL if it is not there. */
static void *find(int index)
{
    int library = functions[index].library;

    if (!__atomic_load_n(&library_opened[library], __ATOMIC_ACQUIRE)) {
        pthread_mutex_lock(&table_lock);
        if (!library_opened[library])
            resolve(library, default_sonames[library]);
        pthread_mutex_unlock(&table_lock);
    }
    return functions[index].address;
}

/* Open `soname` as `library`, in place of what the table held; 0 or -1. No handle of the old one may be alive. */
static int luksctl_open(int library, const char *soname)
{
    int result;

    pthread_mutex_lock(&table_lock);
    result = resolve(library, soname != NULL ? soname : default_sonames[library]);
    pthread_mutex_unlock(&table_lock);
    return result;
}

/* Return why `library` did not open, or an empty text. */
static const char *luksctl_open_error(int library)
{
    return library_error[library];
}

static int luksctl_function_count(void)
{
    return FUNCTION_COUNT;
}

static const char *luksctl_function_name(int index)
{
    return functions[index].name;
}

/* Return the version of the library that brought the function. */
static const char *luksctl_function_since(int index)
{
    return functions[index].since;
}

static int luksctl_function_library(int index)
{
    return functions[index].library;
}

/* Tell whether the opened library has the function. */
static int luksctl_function_present(int index)
{
    return find(index) != NULL;
}
