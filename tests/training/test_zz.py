def test_a(tiny_models, tiny_table):
    print(tiny_models)
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.models.generator import load_generator
    load_retriever(str(tiny_models.encoder), place("cpu", "fp32"))
    g=load_generator(str(tiny_models.generator), place("cpu", "fp32"))
    print(g.frame)
