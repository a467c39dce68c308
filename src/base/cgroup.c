/*
 * Reading control groups.
 *
 * /proc/self/cgroup has a line for each hierarchy, with the process's folder as it is seen from the hierarchy's
 * root; /proc/self/mountinfo says which part of the hierarchy is mounted where. In a container the two need not
 * agree: the folder may lie above what is mounted. Then the mount is the nearest folder that can be seen.
 */
#include "src/base/cgroup.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/system_file.h"

enum { PATH_SIZE = 4096, LINE_SIZE = 8192 };

/* Version 1 says "no limit" by the largest multiple of a page. */
#define NO_LIMIT (UINT64_C(1) << 62)

/* The first line of a file, without its end. */
static bool read_line(const char *folder, const char *name, char *line, size_t size)
{
    FILE *f = lds_system_file_open(folder, name);
    if (!f)
        return false;
    bool found = fgets(line, (int)size, f);
    fclose(f);
    if (found)
        line[strcspn(line, "\n")] = 0;
    return found;
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ',') && (at[n] == 0 || at[n] == ','))
            return true;
    return false;
}

/*
 * Where a hierarchy is mounted, and which of its folders is: the one with that controller, or of version 2 if
 * controller is NULL. A line is "id parent device folder mount options... - type source options".
 */
static bool find_mount(const char *root, const char *controller, char *mount, char *folder)
{
    FILE *f = lds_system_file_open(root, "proc/self/mountinfo");
    char line[LINE_SIZE];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *rest = strstr(line, " - "), options[PATH_SIZE], type[32];
        if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", folder, mount) != 2 ||
            sscanf(rest + 3, "%31s %*s %4095s", type, options) != 2)
            continue;
        found =
            controller ? !strcmp(type, "cgroup") && has_word(options, controller) : !strcmp(type, "cgroup2");
    }
    if (f)
        fclose(f);
    return found;
}

typedef void visit(void *ctx, const char *folder, bool is_v2);

static void visit_up(const char *root, const char *controller, const char *group, visit *look, void *ctx)
{
    char mount[PATH_SIZE], mounted[PATH_SIZE], path[3 * PATH_SIZE];
    if (!find_mount(root, controller, mount, mounted))
        return;
    size_t n = strcmp(mounted, "/") ? strlen(mounted) : 0;
    bool is_within = !strncmp(group, mounted, n) && (group[n] == '/' || !group[n]);
    int floor = snprintf(path, sizeof path, "%s%s", root, mount);
    snprintf(path + floor, sizeof path - (size_t)floor, "%s", is_within ? group + n : "");
    for (size_t end = strlen(path); end > (size_t)floor && path[end - 1] == '/'; end--)
        path[end - 1] = 0;
    for (;;) {
        look(ctx, path, !controller);
        char *slash = strrchr(path, '/');
        if (!slash || slash < path + floor)
            return;
        *slash = 0;
    }
}

/* Look into every folder that limits this process's use of what the controller controls. */
static void visit_groups(const char *root, const char *controller, visit *look, void *ctx)
{
    FILE *f = lds_system_file_open(root, "proc/self/cgroup");
    char line[LINE_SIZE];
    while (f && fgets(line, sizeof line, f)) { /* "<id>:<controllers>:<folder>" */
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        if (!controllers[1])
            visit_up(root, NULL, group, look, ctx);
        else if (has_word(controllers + 1, controller))
            visit_up(root, controller, group, look, ctx);
    }
    if (f)
        fclose(f);
}

/* ------------------------------------------------------------------------------------------------------- */

static void look_for_quota(void *ctx, const char *folder, bool is_v2)
{
    uint64_t *least = ctx, quota, period;
    char line[64];
    if (is_v2) {
        unsigned long long q, p;
        if (!read_line(folder, "cpu.max", line, sizeof line) || sscanf(line, "%llu %llu", &q, &p) != 2)
            return;
        quota = q, period = p;
    } else if (!lds_system_file_number(folder, "cpu.cfs_quota_us", &quota) ||
               !lds_system_file_number(folder, "cpu.cfs_period_us", &period)) {
        return;
    }
    if (period && quota < UINT64_MAX / 1000 && quota * 1000 / period < *least)
        *least = quota * 1000 / period;
}

uint64_t lds_cgroup_quota(const char *root)
{
    uint64_t least = UINT64_MAX;
    visit_groups(root, "cpu", look_for_quota, &least);
    return least;
}

/* The length of a list as "0-3,8". */
static uint32_t count_list(const char *list)
{
    uint64_t n = 0;
    for (const char *at = list; *at >= '0' && *at <= '9';) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        n += last >= first ? last - first + 1 : 0;
        at = *end == ',' ? end + 1 : end;
    }
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static void look_for_processors(void *ctx, const char *folder, bool is_v2)
{
    uint32_t *least = ctx;
    char line[LINE_SIZE];
    if (!read_line(folder, is_v2 ? "cpuset.cpus.effective" : "cpuset.effective_cpus", line, sizeof line))
        return;
    uint32_t n = count_list(line);
    if (n && (!*least || n < *least))
        *least = n;
}

uint32_t lds_cgroup_processors(const char *root)
{
    uint32_t least = 0;
    visit_groups(root, "cpuset", look_for_processors, &least);
    return least;
}

/* ------------------------------------------------------------------------------------------------------- */

/* What a group holds of files, and could let go. Version 1 also counts without the groups below: not that. */
static uint64_t file_pages(const char *folder, bool is_v2)
{
    FILE *f = lds_system_file_open(folder, "memory.stat");
    char line[256], name[128];
    uint64_t sum = 0;
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long value;
        if (sscanf(line, "%127s %llu", name, &value) != 2)
            continue;
        const char *what = is_v2 ? name : strncmp(name, "total_", 6) ? "" : name + 6;
        if (!strcmp(what, "inactive_file") || !strcmp(what, "active_file"))
            sum += value;
    }
    if (f)
        fclose(f);
    return sum;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What a limit leaves, or UINT64_MAX. */
static uint64_t left_of(const char *folder, const char *limit_file, const char *usage_file,
                        uint64_t file_nbytes)
{
    uint64_t limit, usage;
    if (!lds_system_file_number(folder, limit_file, &limit) ||
        !lds_system_file_number(folder, usage_file, &usage) || limit >= NO_LIMIT)
        return UINT64_MAX;
    usage -= less(usage, file_nbytes);
    return limit - less(limit, usage);
}

typedef struct memory_look {
    uint64_t least;
    uint64_t swap_nbytes;
} memory_look;

static void look_for_memory(void *ctx, const char *folder, bool is_v2)
{
    memory_look *look = ctx;
    uint64_t file_nbytes = file_pages(folder, is_v2), left, swap = look->swap_nbytes;
    if (is_v2) {
        left = left_of(folder, "memory.max", "memory.current", file_nbytes);
        swap = less(swap, left_of(folder, "memory.swap.max", "memory.swap.current", 0));
    } else {
        left = left_of(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", file_nbytes);
        uint64_t both =
            left_of(folder, "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", file_nbytes);
        swap = less(swap, both - less(both, left)); /* the limit of memory and swap together */
    }
    if (left < UINT64_MAX - swap)
        look->least = less(look->least, left + swap);
}

uint64_t lds_cgroup_memory(const char *root, uint64_t swap_nbytes)
{
    memory_look look = {UINT64_MAX, swap_nbytes};
    visit_groups(root, "memory", look_for_memory, &look);
    return look.least;
}

/* ------------------------------------------------------------------------------------------------------- */

/* Pages count twice: when they are set aside for a mapping (rsvd), and when they are first touched. */
static void look_for_hugetlb(void *ctx, const char *folder, bool is_v2)
{
    uint64_t *least = ctx, touched, set_aside;
    if (is_v2) {
        touched = left_of(folder, "hugetlb.2MB.max", "hugetlb.2MB.current", 0);
        set_aside = left_of(folder, "hugetlb.2MB.rsvd.max", "hugetlb.2MB.rsvd.current", 0);
    } else {
        touched = left_of(folder, "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.usage_in_bytes", 0);
        set_aside = left_of(folder, "hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.usage_in_bytes", 0);
    }
    *least = less(*least, less(touched, set_aside));
}

uint64_t lds_cgroup_hugetlb(const char *root)
{
    uint64_t least = UINT64_MAX;
    visit_groups(root, "hugetlb", look_for_hugetlb, &least);
    return least;
}
