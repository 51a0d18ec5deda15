/* Tokens: JSON objects in the header, assigned to keyslots. */

/* since 2.0 */
#define CRYPT_ANY_TOKEN -1

typedef enum {
    CRYPT_TOKEN_INVALID,
    CRYPT_TOKEN_INACTIVE,
    CRYPT_TOKEN_INTERNAL,
    CRYPT_TOKEN_INTERNAL_UNKNOWN,
    CRYPT_TOKEN_EXTERNAL,
    CRYPT_TOKEN_EXTERNAL_UNKNOWN,
} crypt_token_info;

int crypt_token_json_get(struct crypt_device *cd, int token, const char **json);
int crypt_token_json_set(struct crypt_device *cd, int token, const char *json);
crypt_token_info crypt_token_status(struct crypt_device *cd, int token, const char **type);
int crypt_token_assign_keyslot(struct crypt_device *cd, int token, int keyslot);
int crypt_token_unassign_keyslot(struct crypt_device *cd, int token, int keyslot);
int crypt_token_is_assigned(struct crypt_device *cd, int token, int keyslot);

/* since 2.4 */
int crypt_token_max(const char *type);
void crypt_token_external_disable(void);
const char *crypt_token_external_path(void);

/* since 2.7 */
int crypt_token_set_external_path(const char *path);
