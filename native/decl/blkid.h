/* libblkid: low-level probing of signatures and partition tables. */

struct blkid_struct_probe;
struct blkid_struct_partlist;
struct blkid_struct_partition;
struct blkid_struct_parttable;

#define BLKID_SUBLKS_LABEL 0x2
#define BLKID_SUBLKS_UUID 0x8
#define BLKID_SUBLKS_TYPE 0x20
#define BLKID_SUBLKS_USAGE 0x80
#define BLKID_SUBLKS_BADCSUM 0x400
#define BLKID_PARTS_FORCE_GPT 0x2
#define BLKID_PARTS_ENTRY_DETAILS 0x4

/* since 2.17 */
struct blkid_struct_probe *blkid_new_probe(void);
void blkid_free_probe(struct blkid_struct_probe *pr);
int blkid_probe_set_device(struct blkid_struct_probe *pr, int fd, int64_t off, int64_t size);
int64_t blkid_probe_get_size(struct blkid_struct_probe *pr);
unsigned int blkid_probe_get_sectorsize(struct blkid_struct_probe *pr);
int blkid_probe_enable_superblocks(struct blkid_struct_probe *pr, int enable);
int blkid_probe_set_superblocks_flags(struct blkid_struct_probe *pr, int flags);
int blkid_probe_enable_partitions(struct blkid_struct_probe *pr, int enable);
int blkid_probe_set_partitions_flags(struct blkid_struct_probe *pr, int flags);
int blkid_do_probe(struct blkid_struct_probe *pr);
int blkid_do_safeprobe(struct blkid_struct_probe *pr);
int blkid_do_fullprobe(struct blkid_struct_probe *pr);
int blkid_probe_numof_values(struct blkid_struct_probe *pr);
int blkid_probe_lookup_value(struct blkid_struct_probe *pr, const char *name, const char **data, size_t *len);
struct blkid_struct_partlist *blkid_probe_get_partitions(struct blkid_struct_probe *pr);
int blkid_partlist_numof_partitions(struct blkid_struct_partlist *ls);
struct blkid_struct_parttable *blkid_partlist_get_table(struct blkid_struct_partlist *ls);
struct blkid_struct_partition *blkid_partlist_get_partition(struct blkid_struct_partlist *ls, int n);
const char *blkid_partition_get_name(struct blkid_struct_partition *par);
const char *blkid_partition_get_uuid(struct blkid_struct_partition *par);
const char *blkid_partition_get_type_string(struct blkid_struct_partition *par);
int blkid_partition_get_partno(struct blkid_struct_partition *par);
int64_t blkid_partition_get_start(struct blkid_struct_partition *par);
int64_t blkid_partition_get_size(struct blkid_struct_partition *par);
const char *blkid_parttable_get_type(struct blkid_struct_parttable *tab);
const char *blkid_parttable_get_id(struct blkid_struct_parttable *tab);

/* since 2.30 */
int blkid_probe_set_sectorsize(struct blkid_struct_probe *pr, unsigned int sz);
