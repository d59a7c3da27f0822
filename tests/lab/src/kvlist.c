/*
 * A uWSGI plugin for kvlist.rs: puts every line of the file $LISTS through uWSGI's own
 * function and writes a line for each into $ANSWERS, a field a key: "-" for no value, else "=" and the value.
 */
#include <uwsgi.h>

static void answer(void) {
	char list[1024];
	FILE *lists = fopen(getenv("LISTS"), "r");
	FILE *answers = fopen(getenv("ANSWERS"), "w");
	if (!lists || !answers)
		exit(1);
	while (fgets(list, sizeof(list), lists)) {
		char *values[4] = { NULL, NULL, NULL, NULL };
		list[strcspn(list, "\n")] = 0;
		if (uwsgi_kvlist_parse(list, strlen(list), ',', '=', "a", &values[0], "b", &values[1], "ab", &values[2], "",
			&values[3], NULL))
			exit(1);
		for (int i = 0; i < 4; i++)
			fprintf(answers, "%s%s%s", i ? "\t" : "", values[i] ? "=" : "-", values[i] ? values[i] : "");
		fputc('\n', answers);
	}
	exit(fclose(answers) ? 1 : 0);
}

struct uwsgi_plugin kv_plugin = {
	.name = "kv",
	.on_load = answer,
};
