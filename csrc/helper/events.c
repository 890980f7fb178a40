/* What the monitor tells of its container, for whoever follows the store's events. One JSON object each. */
#include "events.h"
#include "event_log.h"

enum { LINE = 1024 };

static void add_member(struct text *to, const char *name, int64_t number)
{
    text_add(to, to->length ? ",\"" : "\"");
    text_add(to, name);
    text_add(to, "\":");
    text_number(to, number);
}

void event_add(const struct plan *plan, const char *kind, int64_t time_ns, const struct text *more)
{
    enum { BOOT, LOG, MEMBERS };
    const struct pylxc_op *life = plan_find(plan, PYLXC_OP_LIFE);
    const char *directory = life ? op_string(life, LOG) : "";
    TEXT(line, LINE);
    if (!*directory)
        return;
    text_add(&line, "{\"kind\":\"");
    text_add(&line, kind);
    text_add(&line, "\"");
    add_member(&line, "time_ns", time_ns);
    text_add(&line, ",");
    text_add(&line, op_string(life, MEMBERS));
    if (more && more->length) {
        text_add(&line, ",");
        text_bytes(&line, more->data, more->length);
    }
    text_add(&line, "}");
    if (!line.overflow)
        event_log_append(directory, line.data, line.length);
}

void event_started(const struct plan *plan, const struct pylxc_report *started)
{
    TEXT(more, 32);
    add_member(&more, "pid", started->pid);
    event_add(plan, "started", started->time_ns, &more);
}

void event_died(const struct plan *plan, const struct pylxc_report *ended)
{
    TEXT(more, 64);
    if (ended->oom_killed)
        event_add(plan, "oom", ended->time_ns, NULL);
    add_member(&more, "exit_code", ended->code);
    add_member(&more, "signal", ended->signal);
    event_add(plan, "died", ended->time_ns, &more);
}
