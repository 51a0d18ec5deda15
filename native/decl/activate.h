/* Mappings: opening, closing, suspending, growing, and what is active. */

/* since 2.0 */
#define CRYPT_ACTIVATE_READONLY 0x1
#define CRYPT_ACTIVATE_SHARED 0x4
#define CRYPT_ACTIVATE_ALLOW_DISCARDS 0x8
#define CRYPT_ACTIVATE_PRIVATE 0x10
#define CRYPT_ACTIVATE_SAME_CPU_CRYPT 0x40
#define CRYPT_ACTIVATE_SUBMIT_FROM_CRYPT_CPUS 0x80
#define CRYPT_ACTIVATE_KEYRING_KEY 0x800
#define CRYPT_ACTIVATE_NO_JOURNAL 0x1000
#define CRYPT_ACTIVATE_IGNORE_PERSISTENT 0x4000
#define CRYPT_ACTIVATE_ALLOW_UNBOUND_KEY 0x10000
#define CRYPT_ACTIVATE_REFRESH 0x40000
#define CRYPT_ACTIVATE_SERIALIZE_MEMORY_HARD_PBKDF 0x80000
#define CRYPT_ACTIVATE_SUSPENDED 0x200000
#define CRYPT_ACTIVATE_NO_READ_WORKQUEUE 0x1000000
#define CRYPT_ACTIVATE_NO_WRITE_WORKQUEUE 0x2000000
#define CRYPT_DEACTIVATE_DEFERRED 0x1
#define CRYPT_DEACTIVATE_FORCE 0x2
#define CRYPT_DEACTIVATE_DEFERRED_CANCEL 0x4

typedef enum {
    CRYPT_INVALID,
    CRYPT_INACTIVE,
    CRYPT_ACTIVE,
    CRYPT_BUSY
} crypt_status_info;

struct crypt_active_device {
    uint64_t offset;
    uint64_t iv_offset;
    uint64_t size;
    uint32_t flags;
};

int crypt_activate_by_passphrase(struct crypt_device *cd, const char *name, int keyslot, const char *passphrase,
                                 size_t passphrase_size, uint32_t flags);
int crypt_activate_by_volume_key(struct crypt_device *cd, const char *name, const char *volume_key,
                                 size_t volume_key_size, uint32_t flags);
int crypt_deactivate_by_name(struct crypt_device *cd, const char *name, uint32_t flags);
int crypt_resize(struct crypt_device *cd, const char *name, uint64_t new_size);
int crypt_suspend(struct crypt_device *cd, const char *name);
int crypt_resume_by_passphrase(struct crypt_device *cd, const char *name, int keyslot, const char *passphrase,
                               size_t passphrase_size);
int crypt_resume_by_volume_key(struct crypt_device *cd, const char *name, const char *volume_key,
                               size_t volume_key_size);
int crypt_get_active_device(struct crypt_device *cd, const char *name, struct crypt_active_device *cad);
crypt_status_info crypt_status(struct crypt_device *cd, const char *name);
int crypt_volume_key_keyring(struct crypt_device *cd, int enable);

/* since 2.7 */
int crypt_set_keyring_to_link(struct crypt_device *cd, const char *key_description, const char *old_key_description,
                              const char *key_type_desc, const char *keyring_to_link_vk);
