/* Overwriting a range of a device. */

/* since 2.0 */
#define CRYPT_WIPE_NO_DIRECT_IO 0x1

typedef enum {
    CRYPT_WIPE_ZERO,
    CRYPT_WIPE_RANDOM,
    CRYPT_WIPE_ENCRYPTED_ZERO,
    CRYPT_WIPE_SPECIAL,
} crypt_wipe_pattern;

int crypt_wipe(struct crypt_device *cd, const char *dev_path, crypt_wipe_pattern pattern, uint64_t offset,
               uint64_t length, size_t wipe_block_size, uint32_t flags,
               int (*progress)(uint64_t size, uint64_t offset, void *usrptr), void *usrptr);
