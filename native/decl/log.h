/* Log lines and debugging. */

/* since 2.0 */
#define CRYPT_LOG_NORMAL 0
#define CRYPT_LOG_ERROR 1
#define CRYPT_LOG_VERBOSE 2
#define CRYPT_LOG_DEBUG -1
#define CRYPT_LOG_DEBUG_JSON -2
#define CRYPT_DEBUG_ALL -1
#define CRYPT_DEBUG_JSON -2
#define CRYPT_DEBUG_NONE 0

void crypt_set_log_callback(struct crypt_device *cd, void (*log)(int level, const char *msg, void *usrptr),
                            void *usrptr);
void crypt_log(struct crypt_device *cd, int level, const char *msg);
void crypt_set_debug_level(int level);
void crypt_set_confirm_callback(struct crypt_device *cd, int (*confirm)(const char *msg, void *usrptr), void *usrptr);
