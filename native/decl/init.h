/* The handle: making one, what it stands on, giving it back. Comes first: the other areas need these names. */

struct crypt_device;
struct crypt_keyslot_context;

/* since 2.0 */
int crypt_init(struct crypt_device **cd, const char *device);
int crypt_init_data_device(struct crypt_device **cd, const char *device, const char *data_device);
int crypt_init_by_name(struct crypt_device **cd, const char *name);
int crypt_init_by_name_and_header(struct crypt_device **cd, const char *name, const char *header_device);
void crypt_free(struct crypt_device *cd);
int crypt_set_data_device(struct crypt_device *cd, const char *device);
int crypt_set_data_offset(struct crypt_device *cd, uint64_t data_offset);
int crypt_metadata_locking(struct crypt_device *cd, int enable);
const char *crypt_get_dir(void);
