/* Checks that src/uwsgi/abi.rs describes the structs of this uWSGI: a mismatch is a compile error. */
#include "uwsgi.h"
#include "uwsgi_hetzner.h"

#define SAME_FIELD(ours, theirs, our_field, their_field)                                                  \
	_Static_assert(offsetof(struct ours, our_field) == offsetof(struct theirs, their_field)           \
	    && sizeof(((struct ours *) 0)->our_field) == sizeof(((struct theirs *) 0)->their_field),      \
	    "src/uwsgi/abi.rs does not match this uWSGI: struct " #theirs ", field " #their_field)
#define SAME_SIZE(ours, theirs)                                                                           \
	_Static_assert(sizeof(struct ours) == sizeof(struct theirs),                                      \
	    "src/uwsgi/abi.rs does not match this uWSGI: size of struct " #theirs)

#define PLUGIN(field) SAME_FIELD(hetzner_uwsgi_plugin, uwsgi_plugin, field, field);
_Static_assert(sizeof(struct uwsgi_plugin) <= sizeof(struct hetzner_uwsgi_plugin),
    "src/uwsgi/abi.rs does not match this uWSGI: struct uwsgi_plugin has grown, lengthen UwsgiPlugin.unused_rest");
PLUGIN(name) PLUGIN(alias) PLUGIN(modifier1) PLUGIN(data) PLUGIN(on_load) PLUGIN(init) PLUGIN(post_init)
PLUGIN(post_fork) PLUGIN(options) PLUGIN(master_cycle) PLUGIN(master_cleanup)

#define OPTION(ours, theirs) SAME_FIELD(hetzner_uwsgi_option, uwsgi_option, ours, theirs);
SAME_SIZE(hetzner_uwsgi_option, uwsgi_option);
OPTION(name, name) OPTION(kind, type) OPTION(shortcut, shortcut) OPTION(help, help) OPTION(func, func)
OPTION(data, data) OPTION(flags, flags)

#define STRING_LIST(field) SAME_FIELD(hetzner_uwsgi_string_list, uwsgi_string_list, field, field);
SAME_SIZE(hetzner_uwsgi_string_list, uwsgi_string_list);
STRING_LIST(value) STRING_LIST(len) STRING_LIST(custom) STRING_LIST(custom2) STRING_LIST(custom_ptr) STRING_LIST(next)

#define ACTION(field) SAME_FIELD(hetzner_uwsgi_legion_action, uwsgi_legion_action, field, field);
SAME_SIZE(hetzner_uwsgi_legion_action, uwsgi_legion_action);
ACTION(name) ACTION(func) ACTION(log_msg) ACTION(next)

#define NODE(field) SAME_FIELD(hetzner_uwsgi_legion_node, uwsgi_legion_node, field, field);
SAME_SIZE(hetzner_uwsgi_legion_node, uwsgi_legion_node);
NODE(name) NODE(name_len) NODE(valor) NODE(uuid) NODE(scroll) NODE(scroll_len) NODE(checksum) NODE(lord_valor)
NODE(lord_uuid) NODE(last_seen) NODE(prev) NODE(next)

#define LEGION(field) SAME_FIELD(hetzner_uwsgi_legion, uwsgi_legion, field, field);
SAME_SIZE(hetzner_uwsgi_legion, uwsgi_legion);
LEGION(legion) LEGION(legion_len) LEGION(valor) LEGION(addr) LEGION(name) LEGION(name_len) LEGION(pid) LEGION(uuid)
LEGION(socket) LEGION(quorum) LEGION(changed) LEGION(dead) LEGION(joined) LEGION(checksum) LEGION(scroll)
LEGION(scroll_len) LEGION(lord_scroll) LEGION(lord_scroll_len) LEGION(lord_scroll_size) LEGION(lord_uuid)
LEGION(lord_valor) LEGION(i_am_the_lord) LEGION(unix_check) LEGION(last_warning) LEGION(lock) LEGION(encrypt_ctx)
LEGION(decrypt_ctx) LEGION(scrolls) LEGION(scrolls_len) LEGION(scrolls_max_size) LEGION(nodes_head) LEGION(nodes_tail)
LEGION(nodes) LEGION(lord_hooks) LEGION(unlord_hooks) LEGION(setup_hooks) LEGION(death_hooks) LEGION(join_hooks)
LEGION(node_joined_hooks) LEGION(node_left_hooks) LEGION(suspended_til) LEGION(next)
