#!/usr/bin/perl
# The tree keeps its shape: arrows point down, and every source file is in Makefile.am.
use strict;
use warnings;
use Test::More;

my $srcdir = $ENV{srcdir} // '.';
my $arrows = `$^X '$srcdir/.ci/arrows' '$srcdir' 2>&1`;
is($?, 0, 'no include points up or sideways') or diag($arrows);

open my $in, '<', "$srcdir/Makefile.am" or die "Makefile.am: $!\n";
my %word = map { $_ => 1 } map { split } <$in>;
close $in;

my @folders = qw(base config net mail smtp milter spool store work filters proxy spawn helper tools);
my @files = map { glob("$srcdir/$_/*.[ch]") } @folders;
my @programs = map { s/\.c$//r } glob("$srcdir/t/unit/test_*.c"), glob("$srcdir/t/fuzz/fuzz_*.c");
my @forgotten = grep { !$word{$_} } map { s{^\Q$srcdir/}{}r } @files, @programs;
is("@forgotten", '', 'every source file is a word in Makefile.am');

for my $target (glob("$srcdir/t/fuzz/fuzz_*.c")) {
	my ($name) = $target =~ m{fuzz_([^/]+)\.c$};
	my @seeds = glob("$srcdir/t/fuzz/corpus/$name/*");
	ok(scalar @seeds, "fuzz target $name has seeds");
}

done_testing;
