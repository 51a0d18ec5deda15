/* Writing a new header, loading one, repairing one. */

struct crypt_params_integrity {
    uint64_t journal_size;
    unsigned int journal_watermark;
    unsigned int journal_commit_time;
    uint32_t interleave_sectors;
    uint32_t tag_size;
    uint32_t sector_size;
    uint32_t buffer_sectors;
    const char *integrity;
    uint32_t integrity_key_size;
    const char *journal_integrity;
    const char *journal_integrity_key;
    uint32_t journal_integrity_key_size;
    const char *journal_crypt;
    const char *journal_crypt_key;
    uint32_t journal_crypt_key_size;
};

struct crypt_params_luks2 {
    const struct crypt_pbkdf_type *pbkdf;
    const char *integrity;
    const struct crypt_params_integrity *integrity_params;
    size_t data_alignment;
    const char *data_device;
    uint32_t sector_size;
    const char *label;
    const char *subsystem;
};

/* since 2.0 */
int crypt_set_metadata_size(struct crypt_device *cd, uint64_t metadata_size, uint64_t keyslots_size);
int crypt_get_metadata_size(struct crypt_device *cd, uint64_t *metadata_size, uint64_t *keyslots_size);
int crypt_format(struct crypt_device *cd, const char *type, const char *cipher, const char *cipher_mode,
                 const char *uuid, const char *volume_key, size_t volume_key_size, void *params);
int crypt_load(struct crypt_device *cd, const char *requested_type, void *params);
int crypt_repair(struct crypt_device *cd, const char *requested_type, void *params);
int crypt_set_uuid(struct crypt_device *cd, const char *uuid);
int crypt_set_label(struct crypt_device *cd, const char *label, const char *subsystem);
const char *crypt_get_type(struct crypt_device *cd);
const char *crypt_get_default_type(void);

/* since 2.5 */
const char *crypt_get_label(struct crypt_device *cd);
const char *crypt_get_subsystem(struct crypt_device *cd);

/* since 2.8 */
int crypt_format_inline(struct crypt_device *cd, const char *type, const char *cipher, const char *cipher_mode,
                        const char *uuid, const char *volume_key, size_t volume_key_size, void *params);
