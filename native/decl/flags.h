/* Flags stored in the header: activation options and requirements. */

/* since 2.0 */
#define CRYPT_REQUIREMENT_OFFLINE_REENCRYPT 0x1
#define CRYPT_REQUIREMENT_ONLINE_REENCRYPT 0x2
#define CRYPT_REQUIREMENT_UNKNOWN 0x80000000

typedef enum {
    CRYPT_FLAGS_ACTIVATION,
    CRYPT_FLAGS_REQUIREMENTS
} crypt_flags_type;

int crypt_persistent_flags_set(struct crypt_device *cd, crypt_flags_type type, uint32_t flags);
int crypt_persistent_flags_get(struct crypt_device *cd, crypt_flags_type type, uint32_t *flags);
