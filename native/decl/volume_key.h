/* The volume key: getting it out, checking it. */

/* since 2.0 */
int crypt_volume_key_get(struct crypt_device *cd, int keyslot, char *volume_key, size_t *volume_key_size,
                         const char *passphrase, size_t passphrase_size);
int crypt_volume_key_verify(struct crypt_device *cd, const char *volume_key, size_t volume_key_size);
int crypt_get_volume_key_size(struct crypt_device *cd);

/* since 2.8 */
int crypt_get_old_volume_key_size(struct crypt_device *cd);
