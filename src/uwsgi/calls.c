/*
 * The calls into uWSGI, and what only a C compiler with uWSGI's own uwsgi.h can read. src/uwsgi/calls.rs declares each
 * function.
 *
 * uWSGI's symbols are weak, so that the Rust unit tests link without uWSGI, and so that the plugin loads into a uWSGI
 * without Legion and can say what is missing.
 */
#include "uwsgi.h"
#include "uwsgi_hetzner.h"

extern struct uwsgi_server uwsgi;

#ifndef UWSGI_SSL
#error "this uWSGI was built without SSL, so it has no Legion: build or install one with OpenSSL"
#endif

#pragma weak uwsgi
#pragma weak uwsgi_log
#pragma weak uwsgi_get_cflags
#pragma weak uwsgi_legion_action_register
#pragma weak uwsgi_legion_action_get
#pragma weak uwsgi_legion_announce
#pragma weak uwsgi_legion_register_hook
#pragma weak uwsgi_register_hook
#pragma weak uwsgi_string_new_list
#pragma weak uwsgi_concat2
#pragma weak uwsgi_register_metric
#pragma weak uwsgi_alarm_trigger
#pragma weak EVP_DecryptInit_ex
#pragma weak EVP_DecryptUpdate
#pragma weak EVP_DecryptFinal_ex
#pragma weak EVP_EncryptInit_ex
#pragma weak EVP_EncryptUpdate
#pragma weak EVP_EncryptFinal_ex
#pragma weak EVP_CIPHER_CTX_new
#pragma weak EVP_CIPHER_CTX_copy
#pragma weak EVP_CIPHER_CTX_free
#pragma weak ERR_clear_error

void hetzner_call_log(const char *line) {
	if (uwsgi_log)
		uwsgi_log("%s\n", line);
}

/* The flags that the running uWSGI was built with, to be freed by the caller. NULL without a uWSGI. */
char *hetzner_call_cflags(void) {
	return uwsgi_get_cflags ? uwsgi_get_cflags() : NULL;
}

struct uwsgi_legion_action *hetzner_call_register_action(const char *name,
    int (*func)(struct uwsgi_legion *, const char *)) {
	if (!uwsgi_legion_action_register)
		return NULL;
	return uwsgi_legion_action_register((char *) name, (int (*)(struct uwsgi_legion *, char *)) func);
}

struct uwsgi_legion *hetzner_call_legions(void) {
	return &uwsgi ? uwsgi.legions : NULL;
}

/* Seconds between two announcements. uWSGI sets this and the next two defaults only when its Legion thread starts. */
int hetzner_call_legion_freq(void) {
	return &uwsgi && uwsgi.legion_freq > 0 ? uwsgi.legion_freq : 3;
}

/* Whether this process is about to reload: to become the same uWSGI anew. */
bool hetzner_call_is_reloading(void) {
	return &uwsgi && uwsgi_instance_is_reloading;
}

/* Whether it is about to end. */
bool hetzner_call_is_dying(void) {
	return &uwsgi && uwsgi_instance_is_dying;
}

void hetzner_call_announce(struct uwsgi_legion *legion) {
	uwsgi_legion_announce(legion);
}

/* Seconds without an announcement after which a node counts as dead. */
int hetzner_call_legion_tolerance(void) {
	return &uwsgi && uwsgi.legion_tolerance > 0 ? uwsgi.legion_tolerance : 15;
}

/* How old an announcement may be, in seconds. */
int hetzner_call_skew_tolerance(void) {
	return &uwsgi && uwsgi.legion_skew_tolerance > 0 ? uwsgi.legion_skew_tolerance : 60;
}

/*
 * Takes one datagram off a Legion's socket and decrypts it: writes its header of four bytes and the decrypted text, and
 * returns their length; 0 if it cannot be decrypted; -1 if there is none. Only in the Legion's own thread, which owns the
 * cipher.
 */
ptrdiff_t hetzner_call_receive(struct uwsgi_legion *legion, uint8_t (*datagram)[HETZNER_DATAGRAM_ROOM]) {
	uint8_t *text = *datagram + 4;
	int length, end;
	ssize_t received;

	_Static_assert(sizeof(*datagram) >= UMAX16, "no room for a decrypted datagram");
	/* Without OpenSSL's symbols everything is left to uWSGI. */
	if (!EVP_DecryptInit_ex)
		return -1;
	/* As much as uWSGI itself reads. */
	received = recv(legion->socket, *datagram, UMAX16 - EVP_MAX_BLOCK_LENGTH - 4, MSG_DONTWAIT);
	if (received < 0)
		return -1;
	if (received <= 4)
		return 0;
	if (EVP_DecryptInit_ex(legion->decrypt_ctx, NULL, NULL, NULL, NULL) <= 0
	    || EVP_DecryptUpdate(legion->decrypt_ctx, text, &length, text, (int) received - 4) <= 0
	    || EVP_DecryptFinal_ex(legion->decrypt_ctx, text + length, &end) <= 0) {
		ERR_clear_error();
		return 0;
	}
	return 4 + length + end;
}

/* A copy of the cipher that a Legion encrypts with, for use in another thread; NULL if that fails. */
void *hetzner_call_copy_cipher(struct uwsgi_legion *legion) {
	EVP_CIPHER_CTX *copy = EVP_CIPHER_CTX_new ? EVP_CIPHER_CTX_new() : NULL;

	if (copy && !EVP_CIPHER_CTX_copy(copy, legion->encrypt_ctx)) {
		EVP_CIPHER_CTX_free(copy);
		return NULL;
	}
	return copy;
}

/* The name of this node in its announcements. */
const char *hetzner_call_name(void) {
	return &uwsgi ? uwsgi.hostname : "";
}

/*
 * Encrypts an announcement, except for its header of four bytes, into room that is HETZNER_SEAL longer; returns its length
 * then, or -1.
 */
ptrdiff_t hetzner_call_seal(void *cipher, const uint8_t *datagram, size_t length, uint8_t *sealed) {
	int begin, end;

	_Static_assert(HETZNER_SEAL >= EVP_MAX_BLOCK_LENGTH, "no room for an encrypted datagram");
	memcpy(sealed, datagram, 4);
	if (EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, NULL) <= 0
	    || EVP_EncryptUpdate(cipher, sealed + 4, &begin, datagram + 4, (int) length - 4) <= 0
	    || EVP_EncryptFinal_ex(cipher, sealed + 4 + begin, &end) <= 0) {
		ERR_clear_error();
		return -1;
	}
	return 4 + begin + end;
}

/* Encrypts an announcement, except for its header of four bytes, and sends it to every one of the Legion's nodes. */
void hetzner_call_send(struct uwsgi_legion *legion, struct uwsgi_string_list *nodes, void *cipher,
    const uint8_t *datagram, size_t length) {
	uint8_t *sealed = malloc(length + HETZNER_SEAL);
	struct uwsgi_string_list *node;
	ptrdiff_t sealed_length;

	if (!sealed)
		return;
	sealed_length = hetzner_call_seal(cipher, datagram, length, sealed);
	if (sealed_length < 0) {
		free(sealed);
		return;
	}
	/* Errors are ignored: the next round sends it again. */
	for (node = nodes; node; node = node->next)
		sendto(legion->socket, sealed, sealed_length, MSG_DONTWAIT, node->custom_ptr, node->custom);
	free(sealed);
}

/* uWSGI creates the lock only when it starts; a command ends before that. */
void hetzner_call_read_lock(struct uwsgi_legion *legion) {
	if (legion->lock)
		uwsgi_rlock(legion->lock);
}

void hetzner_call_write_lock(struct uwsgi_legion *legion) {
	if (legion->lock)
		uwsgi_wlock(legion->lock);
}

void hetzner_call_unlock(struct uwsgi_legion *legion) {
	if (legion->lock)
		uwsgi_rwunlock(legion->lock);
}

/* Whether legion-death-on-lord-error is set. */
bool hetzner_call_death_on_lord_error(void) {
	return &uwsgi && uwsgi.legion_death_on_lord_error > 0;
}

/*
 * Has uWSGI call func once it has read its configuration, before it binds, forks or goes to the background: in its phase
 * "asap", like an action that the configuration names.
 */
void hetzner_call_asap(const char *name, int (*func)(const char *)) {
	uwsgi_register_hook((char *) name, (int (*)(char *)) func);
	/* A copy, because uWSGI writes to the text. */
	uwsgi_string_new_list(&uwsgi.hook_asap, uwsgi_concat2((char *) name, ":"));
}

/* uWSGI reads *value about once a second, in this process. */
void hetzner_call_register_metric(const char *name, const char *oid, bool is_counter, int64_t *value) {
	uwsgi_register_metric((char *) name, (char *) oid, is_counter ? UWSGI_METRIC_COUNTER : UWSGI_METRIC_GAUGE, "ptr", value, 0, NULL);
}

void hetzner_call_alarm(const char *name, const char *message, size_t length) {
	uwsgi_alarm_trigger((char *) name, (char *) message, length);
}

/* Whether the configuration has an alarm of that name. */
bool hetzner_call_has_alarm(const char *name) {
	struct uwsgi_string_list *alarm = uwsgi.alarm_list;
	size_t length = strlen(name);
	/* Each is "NAME KIND:ARGUMENT"; uWSGI parses them only later. */
	for (; alarm; alarm = alarm->next)
		if (!strncmp(alarm->value, name, length) && alarm->value[length] == ' ')
			return 1;
	return 0;
}

/*
 * Finds the user and the group that uWSGI will be, as its uwsgi_as_root() does; 0 if it stays what it is. Returns the option
 * whose value does not exist, or NULL.
 */
static const char *find_user(uid_t *uid, gid_t *gid) {
	*uid = uwsgi.uid;
	*gid = uwsgi.gid;
	if (uwsgi.gidname) {
		struct group *group = getgrnam(uwsgi.gidname);
		if (!group)
			return "gid";
		*gid = group->gr_gid;
	}
	if (uwsgi.uidname) {
		struct passwd *user = getpwnam(uwsgi.uidname);
		if (!user)
			return "uid";
		*uid = user->pw_uid;
	}
	return NULL;
}

/* The user that uWSGI will be; -1 if the configuration does not say, or the master stays root. */
int64_t hetzner_call_user_to_be(void) {
	uid_t uid;
	gid_t gid;
	if (uwsgi.master_as_root || find_user(&uid, &gid) || !uid)
		return -1;
	return uid;
}

static const char *set_groups(uid_t uid, gid_t gid) {
	struct uwsgi_string_list *name;
	gid_t groups[64];
	size_t count = 0;
	struct passwd *user = getpwuid(uid);

	if (uwsgi.no_initgroups || !uid || !user ? setgroups(0, NULL) : initgroups(user->pw_name, gid))
		return "gid";
	/* These replace the user's own. */
	for (name = uwsgi.additional_gids; name && count < sizeof(groups) / sizeof(*groups); name = name->next) {
		struct group *group;
		groups[count] = (gid_t) atoi(name->value);
		if (!groups[count]) {
			group = getgrnam(name->value);
			if (!group)
				return "add-gid";
			groups[count] = group->gr_gid;
		}
		count++;
	}
	return count && setgroups(count, groups) ? "add-gid" : NULL;
}

/*
 * Becomes the user that uWSGI will be, in its root and working directory, in the steps of its uwsgi_as_root(). There is no
 * way back. Returns the option that fails, with errno set if the system says why, or NULL.
 */
const char *hetzner_call_become_user(void) {
	uid_t uid;
	gid_t gid;
	const char *unknown = find_user(&uid, &gid);
	errno = 0;
	if (!geteuid() && !uwsgi.master_as_root) {
		if (unknown)
			return unknown;
		/* Before the chroot, because /etc/group is outside. */
		if (gid && (unknown = set_groups(uid, gid)))
			return unknown;
		if (uwsgi.chroot && chroot(uwsgi.chroot))
			return "chroot";
		if (gid && setgid(gid))
			return "gid";
		if (uid && setuid(uid))
			return "uid";
	}
	return uwsgi.chdir && chdir(uwsgi.chdir) ? "chdir" : NULL;
}

/* Whether a reload ends this process instead: exit-on-reload. */
bool hetzner_call_exits_on_reload(void) {
	return &uwsgi && uwsgi.exit_on_reload;
}

/* Adds a hook to a Legion, like one that the configuration names. uWSGI keeps the text. */
void hetzner_call_register_hook(struct uwsgi_legion *legion, const char *event, const char *hook) {
	if (uwsgi_legion_register_hook)
		uwsgi_legion_register_hook(legion, (char *) event, (char *) hook);
}

/* Whether there is a master process, which runs the Legions. */
bool hetzner_call_has_master(void) {
	return uwsgi.master_process;
}

/* Whether an action exists: a plugin has registered it, or uWSGI will do so when its Legions start. */
bool hetzner_call_has_action(const char *name) {
	static const char *own[] = { "cmd", "exec", "signal", "log", "alarm" };
	size_t i;
	for (i = 0; i < sizeof(own) / sizeof(*own); i++)
		if (!strcmp(own[i], name))
			return 1;
	return uwsgi_legion_action_get((char *) name) != NULL;
}

/* An option of the configuration, by number; false after the last. The value may be NULL. */
bool hetzner_call_option(int number, const char **key, const char **value) {
	if (number >= uwsgi.exported_opts_cnt)
		return 0;
	*key = uwsgi.exported_opts[number]->key;
	*value = uwsgi.exported_opts[number]->value;
	return 1;
}

/*
 * The file or UDP address that uWSGI will log to, or NULL. 0 and 1 are opened next, by the present user; 2 and 3 later, by
 * the user that uWSGI will be; 3 only after the application is loaded.
 */
const char *hetzner_call_log_file(int number) {
	switch (number) {
	case 0:
		return uwsgi.daemonize;
	case 1:
		return uwsgi.daemonize ? NULL : uwsgi.logfile;
	case 2:
		return uwsgi.logto2;
	default:
		return uwsgi.daemonize2;
	}
}

/* The directory that uWSGI will chroot to, or NULL. After a reload it is there already. */
const char *hetzner_call_chroot(void) {
	return uwsgi.master_as_root || uwsgi.is_a_reload || getuid() ? NULL : uwsgi.chroot;
}

/* Whether the master's user, group or root will change. */
static int becomes_another(void) {
	if (geteuid() || uwsgi.master_as_root)
		return 0;
	return uwsgi.uid || uwsgi.uidname || uwsgi.gid || uwsgi.gidname || uwsgi.chroot;
}

/* What a path is needed for. Returns 0, or the errno of the attempt. */
static int try_path(const char *path, int need) {
	struct stat found;
	int file;

	if (need == HETZNER_NEED_READ) {
		file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
		/* In a command this process goes on. */
		return file < 0 ? errno : (close(file), 0);
	}
	if (stat(path, &found))
		return errno;
	if (need == HETZNER_NEED_RUN ? !S_ISREG(found.st_mode) : !S_ISDIR(found.st_mode))
		return need == HETZNER_NEED_RUN ? EACCES : ENOTDIR;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) ? errno : 0;
}

/*
 * Whether the master will be able to do with that path what it needs: 0, or the errno of the attempt. If the master's user,
 * group or root will change, a child process becomes that user and tries it, and *uid is that user; -1 if that is not
 * possible. Else *uid stays as it is. Only while this process has one thread.
 */
int hetzner_call_try(const char *path, int need, unsigned int *uid) {
	struct { int error; unsigned int uid; } said = { -1, *uid };
	int ends[2];
	pid_t child;

	if (!becomes_another())
		return try_path(path, need);
	if (pipe(ends))
		return -1;
	child = fork();
	if (!child) {
		if (!hetzner_call_become_user()) {
			said.uid = getuid();
			said.error = try_path(path, need);
		}
		_exit(write(ends[1], &said, sizeof(said)) != sizeof(said));
	}
	close(ends[1]);
	if (child > 0) {
		while (read(ends[0], &said, sizeof(said)) < 0 && errno == EINTR)
			;
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(ends[0]);
	*uid = said.uid;
	return said.error;
}
