#!/usr/bin/perl
# What the documents and contrib/ tell people to write is right: configurations are good, quoted
# lines are those of the files they come from, and links lead somewhere.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Cwd 'abs_path';
use File::Find ();
use Test::More;
use TestUtil;

my $postern = $ENV{POSTERN} // builddir() . '/postern';
my $dir = temp_dir();
my @pages = ('README.md', 'HACKING.md', map { s{^\Q@{[ srcdir() ]}\E/}{}r } glob srcdir() . '/doc/*.md');

sub page { return read_file(srcdir() . "/$_[0]") // '' }

# What postern says of a text: nothing. -T looks at the text alone, not for users, folders and servers that are
# not on this machine; t/05-check.t does.
sub passes
{
	my ($text, $name) = @_;
	my $file = write_file("$dir/sample.conf", $text);
	my $said = `'$postern' -T -c '$file' 2>&1 >/dev/null`;

	is("$said$?", '0', "$name is good") or diag($text);
	return;
}

sub is_whole { my ($text) = @_; return $text =~ /^listener\b/m && $text =~ /^backend\b/m }

# ---- configurations --------------------------------------------------------------------------

# Not those of other programs, nor pieces that another one includes.
my @files;
File::Find::find({ no_chdir => 1, wanted => sub { push @files, $_ if /postern\.conf$|\/samples\/.*\.conf$/ } },
	map { srcdir() . "/$_" } qw(contrib doc man));
@files = sort grep { !m{/\w+\.d/} } @files;
cmp_ok(scalar @files, '>=', 15, 'contrib/ has configurations');
symlink abs_path(srcdir()) . '/contrib/samples/include/conf.d', "$dir/conf.d";
for my $file (@files) {
	my $name = $file =~ s{^\Q@{[ srcdir() ]}\E/}{}r;
	my ($words) = read_file($file) =~ /\A((?:#.*\n)*)/;

	passes(read_file($file), $name);
	next unless $name =~ m{/samples/};
	my $n = () = $words =~ /\n/g;
	ok($n >= 2 && $n <= 4, "$name begins with 2 to 4 lines that say when to use it");
}

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

	push @wanted, grep { !/NN|need-date/ } $text =~ m{(?<!/)\b((?:contrib|doc|man|t|\.ci)/[\w./-]*\w)}g;
	push @wanted, grep { !m{/(?:x|need_date)\.c$} } $text =~ m{`((?:base|config|net|mail|smtp|spool|work|filters|proxy|spawn|helper)/\w+\.[ch])`}g;
	my %seen;
	my @lost = grep { !$seen{$_}++ && !is_there($_) } @wanted;
	is("@lost", '', "$page names only files that are there");
}

done_testing;
