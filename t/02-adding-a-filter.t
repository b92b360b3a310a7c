#!/usr/bin/perl
# The kind of filter that doc/adding-a-filter.md makes: its code compiles as ours does.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Cwd 'abs_path';
use Test::More;
use TestUtil;

my $src = abs_path(srcdir());
my ($code) = read_file("$src/doc/adding-a-filter.md") =~ /^```c\n((?s:.*?))^```$/m;
my ($name) = $code =~ m{\A/\* filters/(\w+)\.c - };
my $dir = temp_dir();
my $cc = $ENV{CC} // 'cc';

ok(defined $name, 'the page has a whole file');
my $file = write_file("$dir/$name.c", $code);
is(scalar `$cc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -I'$src' -c -o '$dir/$name.o' '$file' 2>&1`, '', 'it compiles without a warning');
is(join(' ', $code =~ /^\t?FILTER_SECTION\((\w+)/mg), $name, 'the kind is called as its file is');
like(read_file("$src/doc/adding-a-filter.md"), qr/`FILTER\($name\)`/, 'its line for the register is told');
my @wide = grep { length(s/\t/        /gr) > 100 } split /\n/, $code;
is("@wide", '', 'its lines are as wide as ours may be');
done_testing;
