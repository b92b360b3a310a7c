#!/usr/bin/perl
# What the documents and contrib/ tell people to write is right: configurations pass postern -t, quoted
# lines are those of the files they come from, and links lead somewhere.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use File::Find ();
use Test::More;
use TestUtil;

my $postern = $ENV{POSTERN} // builddir() . '/postern';
my $dir = temp_dir();
my @pages = ('README.md', 'HACKING.md', map { s{^\Q@{[ srcdir() ]}\E/}{}r } glob srcdir() . '/doc/*.md');

sub page { return read_file(srcdir() . "/$_[0]") // '' }

# What postern -t says of a text: nothing but the last line, when all is well.
sub passes
{
	my ($text, $name) = @_;
	my $file = write_file("$dir/sample.conf", $text);
	my $said = `'$postern' -t -c '$file' 2>&1`;

	is($said, "$file: the configuration is good\n", "$name passes postern -t") or diag($text);
	return;
}

sub is_whole { my ($text) = @_; return $text =~ /^listener\b/m && $text =~ /^backend\b/m }

# ---- configurations --------------------------------------------------------------------------

my @files;
File::Find::find({ no_chdir => 1, wanted => sub { push @files, $_ if /postern\.conf$/ } },
	map { srcdir() . "/$_" } qw(contrib doc man));
cmp_ok(scalar @files, '>=', 3, 'contrib/ has configurations');
passes(read_file($_), s{^\Q@{[ srcdir() ]}\E/}{}r) for sort @files;

my @examples = map { s/\\e/\\/gr } page('man/postern.conf.5') =~ /^\.Bd -literal.*\n((?s:.*?))^\.Ed/mg;
my $n = 0;
passes($_, 'example ' . ++$n . ' of postern.conf(5)') for grep { is_whole($_) } @examples;
cmp_ok($n, '>=', 4, 'postern.conf(5) has examples');

for my $page (@pages) {
	$n = 0;
	passes($_, 'sample ' . ++$n . " of $page") for grep { is_whole($_) } page($page) =~ /^```\w*\n((?s:.*?))^```$/mg;
}

my $example = `'$postern' -T default`;
passes($example, 'the example file as it is printed') if is_whole($example);
passes($example =~ s/^#(?!#)//mgr, 'the example file without its comment signs');

# ---- options ---------------------------------------------------------------------------------

my @rows = `'$postern' -T manual` =~ /^\.It Ic (\S+)/mg;
my $manual = page('man/postern.conf.5');
my @missing = grep { $manual !~ /^\.It Ic \Q$_\E\b/m } @rows;
is("@missing", '', 'every option has an item in postern.conf(5)');

# ---- quotations ------------------------------------------------------------------------------

# Lines that count: without comments (of all kinds there are) and empty ones.
sub lines
{
	my ($text) = @_;

	return join '', map { "$_\n" } grep { /\S/ && !/^(?:#|dnl\b)/ } split /\n/, $text;
}

# A block right behind a paragraph that ends in `contrib/...`: or (`contrib/...`): is part of that file.
for my $page (@pages) {
	my $text = page($page);

	while ($text =~ /`(contrib\/[^`\s]+)`[^`\n]*\n\n```\w*\n((?s:.*?))^```$/mg) {
		my ($file, $quoted) = ($1, lines($2));

		ok(length $quoted && index(lines(page($file)), $quoted) >= 0, "$page quotes $file as it is")
		    or diag($quoted);
	}
}
my $quotations = () = page('README.md') =~ /`contrib\/[^`\s]+`[^`\n]*\n\n```/g;
cmp_ok($quotations, '>=', 6, 'README.md quotes the files of contrib/');

# ---- links and files -------------------------------------------------------------------------

# Also the beginning of a name, as t/unit/test_*.c has it.
sub is_there { my @found = glob srcdir() . "/$_[0]*"; return scalar @found }

for my $page (@pages) {
	my ($folder) = $page =~ m{^(.*/)} ? $1 : '';
	my $text = page($page);
	my @wanted = map { $folder . $_ } grep { !m{^\w+:} } $text =~ /\]\(([^)#]+)\)/g;

	push @wanted, grep { !/NN/ } $text =~ m{\b((?:contrib|doc|man|t|\.ci)/[\w./-]*\w)}g;
	push @wanted, grep { !m{/x\.c$} } $text =~ m{`((?:base|config|net|mail|smtp|spool|work|filters|proxy|spawn|helper)/\w+\.[ch])`}g;
	my %seen;
	my @lost = grep { !$seen{$_}++ && !is_there($_) } @wanted;
	is("@lost", '', "$page names only files that are there");
}

done_testing;
