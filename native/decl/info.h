/* What a loaded header says. */

/* since 2.0 */
const char *crypt_get_cipher(struct crypt_device *cd);
const char *crypt_get_cipher_mode(struct crypt_device *cd);
const char *crypt_get_uuid(struct crypt_device *cd);
const char *crypt_get_device_name(struct crypt_device *cd);
const char *crypt_get_metadata_device_name(struct crypt_device *cd);
uint64_t crypt_get_data_offset(struct crypt_device *cd);
uint64_t crypt_get_iv_offset(struct crypt_device *cd);
int crypt_get_sector_size(struct crypt_device *cd);
int crypt_get_integrity_info(struct crypt_device *cd, struct crypt_params_integrity *ip);

/* since 2.4 */
int crypt_dump_json(struct crypt_device *cd, const char **json, uint32_t flags);
int crypt_header_is_detached(struct crypt_device *cd);
