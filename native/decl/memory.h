/* Memory that libcryptsetup locks and wipes. */

/* since 2.0 */
void *crypt_safe_alloc(size_t size);
void crypt_safe_free(void *data);
void crypt_safe_memzero(void *data, size_t size);

/* since 2.8 */
void *crypt_safe_memcpy(void *dst, const void *src, size_t size);
