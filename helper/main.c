/* helper/main.c - the program postern-helper: argv[1] names the row; the spawner gives
 * descriptor 3. */
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "helper/helper.h"

int
main(int argc, char **argv)
{
	const struct helper_row *row = argc == 2 ? helper_row_find(argv[1]) : NULL;

	if (row == NULL) {
		fprintf(stderr, "postern-helper is started by postern, not by hand\n");
		return EX_USAGE;
	}
	/* Not exit(): what libraries do at the end may need what was taken from us. */
	_exit(helper_serve(row));
}
