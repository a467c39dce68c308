/* Tensors by module: names cut at their dots, repeated numbered blocks shown once. */
#ifndef CLI_TREE_H
#define CLI_TREE_H

#include "output.h"
#include "loadstone.h"

void put_tree(output *out, const lds_checkpoint *checkpoint);

#endif
