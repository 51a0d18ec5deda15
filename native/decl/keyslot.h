/* Keyslots: adding, changing, destroying, and what is in them. */

/* since 2.0 */
#define CRYPT_ANY_SLOT -1
#define CRYPT_VOLUME_KEY_NO_SEGMENT 0x1
#define CRYPT_VOLUME_KEY_SET 0x2
#define CRYPT_VOLUME_KEY_DIGEST_REUSE 0x4

typedef enum {
    CRYPT_SLOT_INVALID,
    CRYPT_SLOT_INACTIVE,
    CRYPT_SLOT_ACTIVE,
    CRYPT_SLOT_ACTIVE_LAST,
    CRYPT_SLOT_UNBOUND
} crypt_keyslot_info;

typedef enum {
    CRYPT_SLOT_PRIORITY_INVALID = -1,
    CRYPT_SLOT_PRIORITY_IGNORE = 0,
    CRYPT_SLOT_PRIORITY_NORMAL = 1,
    CRYPT_SLOT_PRIORITY_PREFER = 2,
} crypt_keyslot_priority;

int crypt_keyslot_add_by_passphrase(struct crypt_device *cd, int keyslot, const char *passphrase,
                                    size_t passphrase_size, const char *new_passphrase, size_t new_passphrase_size);
int crypt_keyslot_change_by_passphrase(struct crypt_device *cd, int keyslot_old, int keyslot_new,
                                       const char *passphrase, size_t passphrase_size, const char *new_passphrase,
                                       size_t new_passphrase_size);
int crypt_keyslot_add_by_volume_key(struct crypt_device *cd, int keyslot, const char *volume_key,
                                    size_t volume_key_size, const char *passphrase, size_t passphrase_size);
int crypt_keyslot_add_by_key(struct crypt_device *cd, int keyslot, const char *volume_key, size_t volume_key_size,
                             const char *passphrase, size_t passphrase_size, uint32_t flags);
int crypt_keyslot_destroy(struct crypt_device *cd, int keyslot);
crypt_keyslot_info crypt_keyslot_status(struct crypt_device *cd, int keyslot);
crypt_keyslot_priority crypt_keyslot_get_priority(struct crypt_device *cd, int keyslot);
int crypt_keyslot_set_priority(struct crypt_device *cd, int keyslot, crypt_keyslot_priority priority);
int crypt_keyslot_max(const char *type);
int crypt_keyslot_area(struct crypt_device *cd, int keyslot, uint64_t *offset, uint64_t *length);
int crypt_keyslot_get_key_size(struct crypt_device *cd, int keyslot);
const char *crypt_keyslot_get_encryption(struct crypt_device *cd, int keyslot, size_t *key_size);
int crypt_keyslot_get_pbkdf(struct crypt_device *cd, int keyslot, struct crypt_pbkdf_type *pbkdf);
int crypt_keyslot_set_encryption(struct crypt_device *cd, const char *cipher, size_t key_size);
