/* Re-encryption: starting it, running it, where it stands. */

/* since 2.0 */
#define CRYPT_REENCRYPT_INITIALIZE_ONLY 0x1
#define CRYPT_REENCRYPT_MOVE_FIRST_SEGMENT 0x2
#define CRYPT_REENCRYPT_RESUME_ONLY 0x4
#define CRYPT_REENCRYPT_RECOVERY 0x8
#define CRYPT_REENCRYPT_REPAIR_NEEDED 0x10

typedef enum {
    CRYPT_REENCRYPT_FORWARD = 0,
    CRYPT_REENCRYPT_BACKWARD
} crypt_reencrypt_direction_info;

typedef enum {
    CRYPT_REENCRYPT_REENCRYPT = 0,
    CRYPT_REENCRYPT_ENCRYPT,
    CRYPT_REENCRYPT_DECRYPT,
} crypt_reencrypt_mode_info;

typedef enum {
    CRYPT_REENCRYPT_NONE = 0,
    CRYPT_REENCRYPT_CLEAN,
    CRYPT_REENCRYPT_CRASH,
    CRYPT_REENCRYPT_INVALID
} crypt_reencrypt_info;

struct crypt_params_reencrypt {
    crypt_reencrypt_mode_info mode;
    crypt_reencrypt_direction_info direction;
    const char *resilience;
    const char *hash;
    uint64_t data_shift;
    uint64_t max_hotzone_size;
    uint64_t device_size;
    const struct crypt_params_luks2 *luks2;
    uint32_t flags;
};

int crypt_reencrypt_init_by_passphrase(struct crypt_device *cd, const char *name, const char *passphrase,
                                       size_t passphrase_size, int keyslot_old, int keyslot_new, const char *cipher,
                                       const char *cipher_mode, const struct crypt_params_reencrypt *params);
crypt_reencrypt_info crypt_reencrypt_status(struct crypt_device *cd, struct crypt_params_reencrypt *params);

/* since 2.4 */
int crypt_reencrypt_run(struct crypt_device *cd, int (*progress)(uint64_t size, uint64_t offset, void *usrptr),
                        void *usrptr);

/* since 2.8 */
int crypt_reencrypt_init_by_keyslot_context(struct crypt_device *cd, const char *name,
                                            struct crypt_keyslot_context *kc_old,
                                            struct crypt_keyslot_context *kc_new, int keyslot_old, int keyslot_new,
                                            const char *cipher, const char *cipher_mode,
                                            const struct crypt_params_reencrypt *params);
