// route.h - the choice of a mixture's experts for one token, from the router's logits.
#ifndef DSOPT_CPU_ROUTE_H_
#define DSOPT_CPU_ROUTE_H_

#include "common.h"

namespace dsopt_cpu {

constexpr uint32_t kMaxGroups = 256;

// See dsopt_moe_block.
struct RouteRule {
  uint32_t experts, top_k;
  uint32_t groups, top_groups;  // groups <= kMaxGroups; 0 or 1: none
  bool renormalise;
  float scale;
};

// logits [experts] are used up. chosen, weights: [top_k].
void RouteRow(const Kernels& kernels, const RouteRule& rule, float* logits, int32_t* chosen, float* weights);

// Slots (row, choice) by expert, rows ascending: order [slots], first [experts + 1]. cursor: scratch [experts].
void SortSlots(const int32_t* chosen, uint32_t slots, uint32_t experts, uint32_t* order, uint32_t* first,
               uint32_t* cursor);

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_ROUTE_H_
