/* The header as a whole: saving it to a file, bringing it back. */

/* since 2.0 */
int crypt_header_backup(struct crypt_device *cd, const char *requested_type, const char *backup_file);
int crypt_header_restore(struct crypt_device *cd, const char *requested_type, const char *backup_file);
