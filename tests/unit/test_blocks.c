/* How runs are cut into blocks: every byte once and in order, and huge pages of the arena each by one block. */
#include <fcntl.h>

#include "loadstone.h"
#include "src/base/memory.h"
#include "src/load/blocks.h"
#include "tests/unit/support.h"

enum { N_TENSORS = 4, BLOCK_NBYTES = 4 << 20 };

/* Of F32. The small ones put those behind them out of step with pages. */
static const uint64_t numels[N_TENSORS] = {1000, 9 << 20, 77, 5000001};

static char *folder;
static lds_checkpoint *checkpoint;

static int set_up(void **state)
{
    (void)state;
    char header[512] = "{";
    uint64_t nbytes = 0;
    for (int i = 0; i < N_TENSORS; i++) {
        uint64_t end = nbytes + numels[i] * 4;
        snprintf(header + strlen(header), 128,
                 "%s\"%d\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%d,%d]}", i ? "," : "", i,
                 (int)numels[i], (int)nbytes, (int)end);
        nbytes = end;
    }
    strcat(header, "}");
    while (strlen(header) % 8)
        strcat(header, " ");
    folder = make_folder();
    const char *path = in_folder(folder, "w.safetensors");
    write_safetensors(path, header, NULL, nbytes);
    return lds_checkpoint_open(&checkpoint, path, NULL, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    lds_checkpoint_close(checkpoint);
    remove_folder(folder);
    return 0;
}

/* Whether a piece ends with its run, or begins no huge page that it does not fill. */
static bool ends_well(const lds_plan *plan, const lds_piece *piece)
{
    uint64_t done = piece->run_nbytes_before + piece->nbytes;
    uint64_t end = plan->targets[piece->run->target].offset + lds_run_param_nbytes(piece->run, plan, done);
    return done == piece->run->numel * 4 || end % LDS_HUGE_PAGE_NBYTES == 0 ||
           end % LDS_HUGE_PAGE_NBYTES >= lds_run_param_nbytes(piece->run, plan, piece->nbytes);
}

static void check(lds_dtype dtype, uint64_t unit_nbytes)
{
    lds_network *network;
    lds_plan *plan;
    lds_blocks blocks = {0};
    const lds_cut cut = {.block_nbytes = BLOCK_NBYTES, .unit_nbytes = unit_nbytes};
    assert_int_equal(lds_network_from_checkpoint(&network, checkpoint, dtype, NULL), LDS_OK);
    assert_int_equal(lds_plan_new(&plan, network, checkpoint, NULL, NULL, NULL), LDS_OK);
    assert_int_equal(lds_blocks_cut(&blocks, plan, &cut, NULL), LDS_OK);
    uint64_t at = plan->runs[0].file_offset;
    for (size_t i = 0; i < blocks.n; i++) {
        assert_int_equal(blocks.data[i].offset, at);
        assert_in_range(blocks.data[i].nbytes, 1, BLOCK_NBYTES);
        for (lds_piece piece = {0}; lds_block_next(&blocks.data[i], plan, &piece);) {
            assert_int_equal(piece.offset, at);
            assert_true(unit_nbytes || ends_well(plan, &piece));
            at += piece.nbytes;
            assert_true(!unit_nbytes || piece.run_nbytes_before + piece.nbytes == piece.run->numel * 4 ||
                        at % unit_nbytes == 0);
        }
    }
    const lds_run *last = &plan->runs[plan->n_runs - 1];
    assert_int_equal(at, last->file_offset + last->numel * 4);
    free(blocks.data);
    lds_plan_free(plan);
    lds_network_free(network);
}

static void blocks_end_where_huge_pages_do(void **state)
{
    (void)state;
    check(LDS_BF16, 0);
    check(LDS_F64, 0);
    check(LDS_F8_E4M3, 0);
}

static void blocks_end_where_pages_of_the_file_do(void **state)
{
    (void)state;
    check(LDS_BF16, 4096);
}

/* Tensors of which every other is loaded: each a small one, with a gap behind it. */
static void count_over_gaps(uint64_t gap_nbytes, size_t *n_blocks, uint64_t *read_nbytes,
                            uint64_t *wanted_nbytes)
{
    enum { N = 200, SMALL_NBYTES = 2048 };
    char *header = calloc(N, 256);
    uint64_t nbytes = 0;
    strcpy(header, "{");
    for (int i = 0; i < 2 * N; i++) {
        uint64_t n = i % 2 ? gap_nbytes : SMALL_NBYTES;
        sprintf(header + strlen(header),
                "%s\"%c%d\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[%d,%d]}", i ? "," : "",
                i % 2 ? 'g' : 'w', i, (int)n, (int)nbytes, (int)(nbytes + n));
        nbytes += n;
    }
    strcat(header, "}");
    const char *path = in_folder(folder, "gaps.safetensors"), *names = "w*";
    write_safetensors(path, header, NULL, nbytes);
    free(header);
    lds_checkpoint *gaps;
    lds_network *network;
    lds_plan *plan;
    lds_blocks blocks = {0};
    lds_load_options options;
    lds_load_options_init(&options, sizeof options);
    options.io = LDS_IO_READ;
    options.names = &names;
    options.n_names = 1;
    const lds_cut cut = {.block_nbytes = BLOCK_NBYTES, .unit_nbytes = 4096};
    assert_int_equal(lds_checkpoint_open(&gaps, path, NULL, NULL), LDS_OK);
    assert_int_equal(lds_network_from_checkpoint(&network, gaps, LDS_DTYPE_NONE, NULL), LDS_OK);
    assert_int_equal(lds_plan_new(&plan, network, gaps, &options, NULL, NULL), LDS_OK);
    assert_int_equal(lds_blocks_cut(&blocks, plan, &cut, NULL), LDS_OK);
    *n_blocks = blocks.n;
    *read_nbytes = *wanted_nbytes = 0;
    for (size_t i = 0; i < blocks.n; i++) {
        uint64_t pieces = 0;
        for (lds_piece piece = {0}; lds_block_next(&blocks.data[i], plan, &piece);)
            pieces += piece.nbytes;
        assert_int_equal(pieces, blocks.data[i].run_nbytes);
        *wanted_nbytes += pieces;
        *read_nbytes += blocks.data[i].nbytes;
    }
    assert_int_equal(*wanted_nbytes, N * SMALL_NBYTES);
    free(blocks.data);
    lds_plan_free(plan);
    lds_network_free(network);
    lds_checkpoint_close(gaps);
}

static void gaps_are_read_over_where_that_is_little(void **state)
{
    (void)state;
    size_t n_blocks;
    uint64_t read_nbytes, wanted_nbytes;
    count_over_gaps(4096, &n_blocks, &read_nbytes, &wanted_nbytes);
    assert_int_equal(n_blocks, 1);
    count_over_gaps(60 << 10, &n_blocks, &read_nbytes, &wanted_nbytes);
    assert_int_equal(read_nbytes, wanted_nbytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_end_where_huge_pages_do),
        cmocka_unit_test(blocks_end_where_pages_of_the_file_do),
        cmocka_unit_test(gaps_are_read_over_where_that_is_little),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
