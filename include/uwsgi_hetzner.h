/*
 * What the C side may see of the plugin: its one exported symbol, uWSGI's structs as the Rust side declares them, for
 * src/uwsgi/structs.c to compare with uwsgi.h, and the functions that it expects of src/uwsgi/calls.c.
 * Made by cbindgen from src/uwsgi/abi.rs, src/uwsgi/calls.rs and src/plugin.rs: `make header` renews it, a test keeps
 * it fresh.
 */

#ifndef UWSGI_HETZNER_H
#define UWSGI_HETZNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* uWSGI's own, of its uwsgi.h. */
struct uwsgi_legion;
struct uwsgi_legion_action;

#define HETZNER_DATAGRAM_ROOM 65536

struct hetzner_uwsgi_option {
  const char *name;
  int kind;
  int shortcut;
  const char *help;
  void (*func)(const char*, const char*, void*);
  void *data;
  uint64_t flags;
};

struct hetzner_uwsgi_plugin {
  const char *name;
  const char *alias;
  uint8_t modifier1;
  void *data;
  void (*on_load)(void);
  int (*init)(void);
  void (*post_init)(void);
  void (*post_fork)(void);
  const struct hetzner_uwsgi_option *options;
  void (*unused[9])(void);
  void (*master_cycle)(void);
  void (*unused_too[20])(void);
  void (*master_cleanup)(void);
  void (*unused_rest[33])(void);
};

struct hetzner_uwsgi_string_list {
  const char *value;
  size_t len;
  uint64_t custom;
  uint64_t custom2;
  void *custom_ptr;
  struct hetzner_uwsgi_string_list *next;
};

struct hetzner_uwsgi_legion_node {
  const char *name;
  uint16_t name_len;
  uint64_t valor;
  char uuid[37];
  const char *scroll;
  uint16_t scroll_len;
  uint64_t checksum;
  uint64_t lord_valor;
  char lord_uuid[36];
  int64_t last_seen;
  struct hetzner_uwsgi_legion_node *prev;
  struct hetzner_uwsgi_legion_node *next;
};

struct hetzner_uwsgi_legion {
  const char *legion;
  uint16_t legion_len;
  uint64_t valor;
  const char *addr;
  const char *name;
  uint16_t name_len;
  int pid;
  char uuid[37];
  int socket;
  int quorum;
  int changed;
  int dead;
  int joined;
  uint64_t checksum;
  const char *scroll;
  uint16_t scroll_len;
  const char *lord_scroll;
  uint16_t lord_scroll_len;
  uint16_t lord_scroll_size;
  char lord_uuid[36];
  uint64_t lord_valor;
  int64_t i_am_the_lord;
  int64_t unix_check;
  int64_t last_warning;
  void *lock;
  void *encrypt_ctx;
  void *decrypt_ctx;
  const char *scrolls;
  uint64_t scrolls_len;
  uint64_t scrolls_max_size;
  struct hetzner_uwsgi_legion_node *nodes_head;
  struct hetzner_uwsgi_legion_node *nodes_tail;
  struct hetzner_uwsgi_string_list *nodes;
  struct hetzner_uwsgi_string_list *lord_hooks;
  struct hetzner_uwsgi_string_list *unlord_hooks;
  struct hetzner_uwsgi_string_list *setup_hooks;
  struct hetzner_uwsgi_string_list *death_hooks;
  struct hetzner_uwsgi_string_list *join_hooks;
  struct hetzner_uwsgi_string_list *node_joined_hooks;
  struct hetzner_uwsgi_string_list *node_left_hooks;
  int64_t suspended_til;
  struct hetzner_uwsgi_legion *next;
};

struct hetzner_uwsgi_legion_action {
  const char *name;
  int (*func)(struct hetzner_uwsgi_legion*, const char*);
  const char *log_msg;
  struct hetzner_uwsgi_legion_action *next;
};

extern struct hetzner_uwsgi_plugin hetzner_plugin;

extern void hetzner_call_log(const char *line);

extern char *hetzner_call_cflags(void);

extern bool hetzner_call_has_master(void);

extern bool hetzner_call_is_ending(void);

extern const char *hetzner_call_name(void);

extern struct uwsgi_legion_action *hetzner_call_register_action(const char *name,
                                                                int (*func)(struct uwsgi_legion*,
                                                                            const char*));

extern bool hetzner_call_has_action(const char *name);

extern void hetzner_call_asap(const char *name, int (*func)(const char*));

extern void hetzner_call_register_metric(const char *name,
                                         const char *oid,
                                         bool is_counter,
                                         int64_t *value);

extern void hetzner_call_alarm(const char *name, const char *message, size_t length);

extern bool hetzner_call_has_alarm(const char *name);

extern struct uwsgi_legion *hetzner_call_legions(void);

extern int hetzner_call_legion_freq(void);

extern int hetzner_call_legion_tolerance(void);

extern int hetzner_call_skew_tolerance(void);

extern bool hetzner_call_death_on_lord_error(void);

extern void hetzner_call_read_lock(struct uwsgi_legion *legion);

extern void hetzner_call_write_lock(struct uwsgi_legion *legion);

extern void hetzner_call_unlock(struct uwsgi_legion *legion);

extern void hetzner_call_announce(struct uwsgi_legion *legion);

extern ptrdiff_t hetzner_call_receive(struct uwsgi_legion *legion,
                                      uint8_t (*datagram)[HETZNER_DATAGRAM_ROOM]);

extern void *hetzner_call_copy_cipher(struct uwsgi_legion *legion);

extern void hetzner_call_send(struct uwsgi_legion *legion,
                              void *cipher,
                              const uint8_t *datagram,
                              size_t length);

extern bool hetzner_call_option(int number, const char **key, const char **value);

extern const char *hetzner_call_log_file(int number);

extern const char *hetzner_call_chroot(void);

extern int64_t hetzner_call_user_to_be(void);

extern const char *hetzner_call_become_user(void);

extern int hetzner_call_try_to_read(const char *path, unsigned int *uid);

#endif  /* UWSGI_HETZNER_H */
