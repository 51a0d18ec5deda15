/* Keyslot contexts: one way to name a key for several calls. In 2.6 and 2.7 a context borrows the key's memory. */

#define CRYPT_KC_TYPE_PASSPHRASE 1
#define CRYPT_KC_TYPE_KEYFILE 2
#define CRYPT_KC_TYPE_TOKEN 3
#define CRYPT_KC_TYPE_KEY 4

/* since 2.6 */
void crypt_keyslot_context_free(struct crypt_keyslot_context *kc);
int crypt_keyslot_context_init_by_passphrase(struct crypt_device *cd, const char *passphrase, size_t passphrase_size,
                                             struct crypt_keyslot_context **kc);
int crypt_keyslot_context_init_by_volume_key(struct crypt_device *cd, const char *volume_key, size_t volume_key_size,
                                             struct crypt_keyslot_context **kc);
int crypt_keyslot_context_get_error(struct crypt_keyslot_context *kc);
int crypt_keyslot_context_get_type(const struct crypt_keyslot_context *kc);
int crypt_keyslot_add_by_keyslot_context(struct crypt_device *cd, int keyslot_existing,
                                         struct crypt_keyslot_context *kc, int keyslot_new,
                                         struct crypt_keyslot_context *new_kc, uint32_t flags);
int crypt_volume_key_get_by_keyslot_context(struct crypt_device *cd, int keyslot, char *volume_key,
                                            size_t *volume_key_size, struct crypt_keyslot_context *kc);

/* since 2.7 */
int crypt_activate_by_keyslot_context(struct crypt_device *cd, const char *name, int keyslot,
                                      struct crypt_keyslot_context *kc, int additional_keyslot,
                                      struct crypt_keyslot_context *additional_kc, uint32_t flags);
int crypt_resume_by_keyslot_context(struct crypt_device *cd, const char *name, int keyslot,
                                    struct crypt_keyslot_context *kc);
int crypt_keyslot_context_init_by_vk_in_keyring(struct crypt_device *cd, const char *key_description,
                                                struct crypt_keyslot_context **kc);
