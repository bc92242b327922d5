/* bpc explain [--format=text|latex|html] [--values NAME=NUMBERS …] [--digits N] [--seed N] [-D …] [-o FILE] FILE.bp */
#ifndef BPC_EXPLAIN_COMMAND_H
#define BPC_EXPLAIN_COMMAND_H

/* argv[1] is "explain". Returns the exit code. */
int explain_command(int argc, char **argv);

#endif
