/* Key derivation costs and where random numbers come from. */

/* since 2.0 */
#define CRYPT_RNG_URANDOM 0
#define CRYPT_RNG_RANDOM 1
#define CRYPT_PBKDF_ITER_TIME_SET 0x1
#define CRYPT_PBKDF_NO_BENCHMARK 0x2

struct crypt_pbkdf_type {
    const char *type;
    const char *hash;
    uint32_t time_ms;
    uint32_t iterations;
    uint32_t max_memory_kb;
    uint32_t parallel_threads;
    uint32_t flags;
};

void crypt_set_rng_type(struct crypt_device *cd, int rng_type);
int crypt_get_rng_type(struct crypt_device *cd);
int crypt_set_pbkdf_type(struct crypt_device *cd, const struct crypt_pbkdf_type *pbkdf);
const struct crypt_pbkdf_type *crypt_get_pbkdf_type(struct crypt_device *cd);
const struct crypt_pbkdf_type *crypt_get_pbkdf_type_params(const char *pbkdf_type);
const struct crypt_pbkdf_type *crypt_get_pbkdf_default(const char *type);
void crypt_set_iteration_time(struct crypt_device *cd, uint64_t iteration_time_ms);
