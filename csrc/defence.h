/* Defences that the tests can leave out, one at a time, to show that the attack on each of them is a real one.
 *
 * DEFENCE(NAME, strong, weak) is `strong`. Only in a build with -DPYLXC_WEAKEN_NAME it is `weak`: the tests make such
 * builds for themselves (tests/security/weakening.py), setup.py never does, and what is not chosen is not compiled in.
 */
#ifndef PYLXC_DEFENCE_H
#define PYLXC_DEFENCE_H
#define DEFENCE(name, strong, weak) DEFENCE_EXPANDED(PYLXC_WEAKEN_##name, strong, weak)
#define DEFENCE_EXPANDED(state, strong, weak) DEFENCE_JOINED(state, strong, weak)
#define DEFENCE_JOINED(state, strong, weak) DEFENCE_MARKED(DEFENCE_OFF_##state, strong, weak)
/* A macro that is defined is 1: its mark is a comma, which makes the weak one the second operand. */
#define DEFENCE_MARKED(mark, strong, weak) DEFENCE_SECOND(mark weak, strong, 0)
#define DEFENCE_OFF_1 0,
#define DEFENCE_SECOND(first, second, ...) (second)
#endif
