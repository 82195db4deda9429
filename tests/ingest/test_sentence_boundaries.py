"""Sentences end where readers of the language say: a table for each, boundaries marked by |."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalm.ingest.sentence_boundaries import sentence_starts

ENGLISH = """
It grew in 1990.[12] |Later it fell.[13][14] |Then it rose.
It grew in 1990. [12] |Later it fell.(13) |Then it rose.¹² |So it was.[a] |The end [2]. |Fine.
It fell (see the map.)[3] |Then it rose “again.”[4] |So it was.[citation needed] |All of it.
The virus spread from the lung.12 |The cells died.3,4 |Then it stopped.
Dr. Smith et al. saw 3.5 mg of it (Fig. 2, e.g. here). |J. R. Doe left... so did I. |Why?
Mr. J. R. R. Tolkien and Mrs. Jones, i.e. Mary, met St. John. |It was cold.
The U.S. Army came at 5 p.m. |The rest came at 9 a.m. on Monday. |He has a Ph.D. |This is it.
Brown v. Board of Education was heard. |Acme Inc. sells it. |It is sold by Acme Inc. |The end.
It is no. 5 of vol. 3. |The answer is no. |It has No. DQ288927. |See sec. III and pp. 5 to 7.
Version 2.1. |It needs v3.0.1 of setup.exe. |Then 3.5 of it. |It is at www.a.org. |Fine.
It is vitamin C. |The plan is B. |It is by J. Smith and A. B. Jones. |We saw it in arm A.
It ran 31 min. |Sixteen died. |It is 2 mm. |The rest is 5 m. |Some do. |He came in Dec. 1990.
“Did he?” |“He did.” |(All of it.) |He said "No." |She left. |[It was late.] |¿Qué? |So it was.
"Why?" she said. |"Yes!" he cried. |Was it? yes it was! no. |It is […] The end. |It is.
The mRNA is stable. |mRNA is made. |pH is low. |iPhones too. |χ(2) was used. |Über alles.
Was it?! |It was!!! |And so on… |The end. |**Bold** text. |*Next* one. |`Code` here. |$5 is it.
1. Remove the cover. |2. Drain the oil. |3. Close it. |It has type I. |The end.
As follows: 1. Remove the cover. |2. Drain the oil.
Step 1. Remove it. |Step 2. Fit it. |Fig. 2. The valve. |It is in Table 3. |Values follow.
"Neither do I." |He asked at 5 p.m. |She left Washington, D.C. |He saw J. So and K. He. |Then.
"""
GERMAN = """
Das gilt z. B. am Abend, d. h. nachts, bzw. tags, u. a. Montags. |Vgl. Abb. 3, S. 12 und Nr. 5.
Das gilt z.B. Montags, u.a. Dienstags, i. d. R. Mittwochs, ggf. Abends, evtl. Nachts. |Gut.
Am 3. Mai, im 19. Jahrhundert und am 24. Dezember war es so. |Der 1. FC Ulm gewann.
Es ist das 3. Kapitel der 2. Auflage. |Im Jahr 1990. |Die Zahl ist 12. |Danach geht es weiter.
Am 3. 5. 2020 kam er. |Unter Ludwig XIV. |Die Zeit. |Im XIX. Jahrhundert. |Ende.
Er hat ca. 5 Mio. Euro. |Es läuft 5 Std. |Danach nicht. |Nach § 5 Abs. 2 gilt es. |§ 6 auch.
Dr. med. Müller und Prof. Schmidt, Tel. 123, kamen. |Das war 50 v. Chr. |Die Römer blieben.
Diese Art. |Die andere. |Er sagte: „Nein.“ |Sie ging. |»Ja?« |Ölpumpen, Ventile usw. |Ende.
"""
OTHERS = """
M. Dupont, p. ex. Jean, l'a dit. |Voir chap. 3 et fig. 2. |Le nombre est 12. |Été comme hiver.
Mme. Durand et le Dr. Petit, av. Foch. |C'est fini ! |« Oui. » |Également ceci. |École ?
El Sr. López vive en EE. UU. |Este año, p. ej. Juan, no. |Véase pág. 3, núm. 4. |¿Qué? |¡No! |Sí.
Il Sig. Rossi e il dott. Bianchi, ad es. Maria, cfr. pag. 3. |È tutto. |L'art. 5, acqua ecc. |Poi.
O Sr. Silva e a Dra. Costa viram a pág. 3. |É isso. |Não? |Óleo e água etc. |Fim.
Dhr. Jansen kwam, zie blz. 3 en bijv. Piet. |Dat is alles. |Water, olie enz. |Einde.
यह एक वाक्य है। |यह दूसरा है॥ |तीसरा।|चौथा
এটি একটি বাক্য। |এটি আরেকটি।
هل هذا سؤال؟ |نعم هو كذلك. |والآن؟ |لا
یہ ایک جملہ ہے۔ |یہ دوسرا ہے۔
これは「文です。」と言った。|次の文！|本当？！|最後。。。|値は３．５です．|終わり
他说：“好的！”|他走了。|增长了。[12]|后来|
Առաջին նախադասություն։ |Երկրորդը։ |Երրորդը
ይህ ዓረፍተ ነገር ነው። |ሌላ ነው፧ |አዎ
ဤသည်မှာ။ |နောက်တစ်ခု။
នេះជាប្រយោគ។ |មួយទៀត៕ |ចប់
นี่คือประโยค |นี่คืออีกประโยค |และนี่ 5 บาท
นี่ |คือ! |Yes. |นี่ |คือ
Это предложение. |Это второе? |См. рис. 3 и стр. 5. |Да.
"""


def cut(text: str) -> str:
    places = [0, *sentence_starts(text), len(text)]
    return "|".join(text[a:b] for a, b in itertools.pairwise(places))


@pytest.mark.parametrize("marked", [*ENGLISH.split("\n"), *GERMAN.split("\n"), *OTHERS.split("\n")])
def test_sentences_end_where_they_are_marked(marked):
    marked = marked.removesuffix("|")
    assert cut(marked.replace("|", "")) == marked


def test_items_of_a_list_begin_sentences_and_their_numbers_do_not_end_one():
    items = ["A list:", "1. Remove the cover", "2. Drain it.", "3.2. Close it.", "a) Wait", "• x"]
    assert cut("\n".join(items)) == "\n|".join(items[:3]) + "\n|" + "\n|".join(items[3:])


def test_sentences_of_a_long_text_are_those_of_its_parts():
    text = "The pump of Ulm holds 3.5 bar.[1] " * 500
    assert list(sentence_starts(text)) == [len(text) // 500 * n for n in range(1, 500)]


@given(st.text(st.sampled_from('aB1 .?!…\n"”»«([])*-。」！．と।؟ไท¹12ßΑα')))
def test_boundaries_are_in_order_and_within_any_text(text):
    found = list(sentence_starts(text))
    assert found == sorted(set(found))
    assert all(0 < at < len(text) for at in found)
